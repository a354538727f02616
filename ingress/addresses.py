"""Who is at the other end: the client's address behind the proxies that are trusted, and nobody else's word for it."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from shared.errors import SettingsError


Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

IPV6_PREFIX: Final = 64
"""What one subscriber is given at least (RFC 6177): a limit by single addresses would have no effect."""

LONGEST_CHAIN: Final = 4096
"""So many bytes of X-Forwarded-For are looked at, from its end; what stands further left comes from strangers."""

NOBODY: Final = "unknown"


class TrustedProxies:
    """Finds the client's address; ``PENSTOCK_TRUSTED_PROXIES`` are addresses and networks of our own proxies."""

    def __init__(self, proxies: Sequence[str] = ()) -> None:
        """Read the setting. Raises SettingsError."""
        self._networks = tuple(map(_network, proxies))

    def trusts(self, peer: str) -> bool:
        """Whether the other end of a connection is a proxy of ours."""
        return bool(self._networks) and self._is_ours(_address(peer))

    def source(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Whom a request counts for: an IPv4 address, or the /64 network of an IPv6 address.

        The rightmost address of X-Forwarded-For that is no proxy of ours: each proxy appends whom it was called by, so
        everything left of that one may be made up. A peer that is no proxy of ours is the client, whatever it says.
        """
        client = _address(peer)
        if self._networks and self._is_ours(client):
            lines = [value for name, value in headers if name == b"x-forwarded-for"]
            for text in reversed(b",".join(lines)[-LONGEST_CHAIN:].decode("latin-1").split(",")):
                found = _address(text.strip())
                if found is None:
                    break
                client = found
                if not self._is_ours(found):
                    break
        return source_of(client)

    def _is_ours(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def source_of(address: Address | None) -> str:
    """The network that one sender is taken to have all of."""
    if address is None:
        return NOBODY
    if address.version == 4:  # noqa: PLR2004 - the version of the protocol
        return str(address)
    return str(ipaddress.IPv6Network((int(address), IPV6_PREFIX), strict=False))


def source_of_peer(peer: str) -> str:
    """Whom a connection counts for."""
    return source_of(_address(peer))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SettingsError(
            f"PENSTOCK_TRUSTED_PROXIES: {text!r} is no address and no network such as 10.0.0.0/8"
        ) from None


def _address(text: str) -> Address | None:
    """An address as a peer or a proxy writes it: with a port, in brackets, with a zone, mapped into IPv6."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
