"""Which addresses calls and messages may go to, looked at when the connection is made, by the resolved address."""

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class ForbiddenAddress(OSError):
    """The host's address is in a private network, which the settings of the account or handler do not allow."""


def socket_factory(*, at_home: bool, allow_private: bool) -> Callable[[Any], socket.socket]:
    """What aiohttp makes the sockets of connections with; it is told the address that was resolved.

    ``at_home``: the host is itself a loopback address (or ``localhost``), so it reaches loopback addresses and no
    other. The factory raises ForbiddenAddress.
    """

    def make(address: Any) -> socket.socket:
        family, kind, protocol, _, where = address
        _refuse(where[0], at_home=at_home, allow_private=allow_private)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        return made

    return make


def _refuse(text: str, *, at_home: bool, allow_private: bool) -> None:
    address = _embedded(ipaddress.ip_address(text.partition("%")[0]))
    if at_home:
        allowed = address.is_loopback
    elif address.is_loopback:
        allowed = allow_private
    elif address.is_multicast or address.is_link_local or address.is_unspecified or address.is_reserved:
        allowed = False
    else:
        allowed = address.is_global or allow_private
    if not allowed:
        # with a number, since aiohttp repeats only the sentence of an error that has one
        raise ForbiddenAddress(
            errno.EACCES, f"{address} is not a public address; if this is meant, set allow_private = true"
        )


def _embedded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does (mapped, 6to4, NAT64)."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
