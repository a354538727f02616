"""How many connections there may be at once: of this process, and of one sender."""

from collections import Counter
from typing import TYPE_CHECKING, Final

from ingress.addresses import TrustedProxies, source_of_peer


if TYPE_CHECKING:
    import asyncio

MOST: Final = 10_000
"""Of a process; about 10 KB each. Fewer where this user may not have so many open files."""

MOST_OF_A_SOURCE: Final = 2_000
"""Of one sender; a proxy that is trusted is many senders, and has no bound of its own."""

FILES_KEPT: Final = 200
"""Open files left to everything that is no connection: stores, bodies on their way, the log."""


class Connections:
    """Counts the open connections; a sender is an IPv4 address or the /64 network of an IPv6 address."""

    def __init__(
        self, proxies: TrustedProxies | None = None, *, most: int = MOST, most_of_a_source: int = MOST_OF_A_SOURCE
    ) -> None:
        self._proxies = proxies or TrustedProxies()
        self._most = most
        self._most_of_a_source = most_of_a_source
        self._open = 0
        self._of_source: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether the process has as many as it may have."""
        return self._open >= self._most

    def admit(self, peer: str) -> str | None:
        """Count one more connection; what to give to ``leave`` at its end, or None: it is one too many."""
        source = "" if self._proxies.trusts(peer) else source_of_peer(peer)
        if self.full or (source and self._of_source[source] >= self._most_of_a_source):
            return None
        self._open += 1
        if source:
            self._of_source[source] += 1
        return source

    def leave(self, source: str) -> None:
        """One connection has ended."""
        self._open -= 1
        if source:
            self._of_source[source] -= 1
            if not self._of_source[source]:
                del self._of_source[source]


def address_of(transport: "asyncio.BaseTransport") -> str:
    """The address at the other end of a connection; empty where there is none (a Unix socket)."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
