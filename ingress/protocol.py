"""uvicorn's HTTP protocol with bounds on connections and heads, and without losing a body to an offer of HTTP/2.

With httptools uvicorn has no such bounds: one sender could hold memory with an endless header, and a connection for
ever with half of one.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ingress.connections import Connections, address_of


HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 10.0
HEADERS: Final = 256
"""So many of one request; 64 KiB hold 16,000 of them, each of which costs Python a call."""

PIPELINED: Final = 64
"""So many requests may wait behind one that is not answered yet; one read of 256 KiB could hold 14,000 of 3 KB each."""

ROOM_SECONDS: Final = 1.0
"""How often idle connections are looked for while there is no room for new ones."""

WHITE_SPACE: Final = b" \t"

WHOLE_BODY: Final = "penstock.whole-body"
"""In a request's ASGI extensions once its body has arrived: to receive what is left of it waits for nobody."""

_WITH_WHOLE_BODY: Final[dict[str, dict[object, object]]] = {WHOLE_BODY: {}}


class HeadTooLarge(Exception):
    """Stops the parser; it never leaves it."""


class TooManyPipelined(Exception):
    """Stops the parser; it never leaves it."""


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 to a head of more than 64 KiB; closes a connection whose head is not complete after 10 s."""

    _looked_for_room = float("-inf")

    def __init__(self, *args: Any, admission: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._admission = admission
        self._admitted: str | None = None
        self._begun: RequestResponseCycle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._another_ended = False
        self._head_too_large = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._declined_headers: list[tuple[bytes, bytes]] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request no longer than for a next one; close at once what is one too many."""
        super().connection_made(transport)
        self._admitted = self._admission.admit(address_of(transport))
        if self._admitted is None:
            # Aborted: to wait for what it sends would keep what there is no room for.
            transport.abort()
            if self._admission.full:
                self._make_room()
            return
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._end_head()
        if self._admitted is not None:
            self._admission.leave(self._admitted)
            self._admitted = None
        # uvicorn tells only the newest request; one before it would answer into a closed transport, and log that.
        for cycle in (self._begun, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; count what belongs to a head that is still incomplete."""
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        self._another_ended = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        if not self._in_head or self._another_ended:
            # Of a head that began behind another request in this read, only the next reads are counted.
            self._head_bytes = 0
        elif self._head_bytes > HEAD_BYTES:
            self._refuse_head()
        if self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a field behind a chunked body is not one, and must not be merged with them (RFC 9110, 6.5.1).

        White space around a value is no part of it (RFC 9110, 5.5); the parser hands on what stands behind it.
        """
        if self._in_head:
            super().on_header(name, value.strip(WHITE_SPACE))

    def on_headers_complete(self) -> None:
        """A head is complete: start the request unless it is too large."""
        self._end_head()
        if len(self.headers) > HEADERS:
            self._head_too_large = True
            raise HeadTooLarge
        if len(self.pipeline) >= PIPELINED:
            raise TooManyPipelined
        # Only a large read can hold a large head; adding it up would cost every request.
        if self._head_bytes > HEAD_BYTES and self._head_size() > HEAD_BYTES:
            self._head_too_large = True
            raise HeadTooLarge
        if self._declined_headers is not None:
            self.headers[:], self._declined_headers = self._declined_headers, None
        elif self.parser.should_upgrade():
            return
        if self.parser.get_http_version() == "1.0":
            # A client of HTTP/1.0 would take an interim answer for the answer (RFC 9110, 10.1.1 and 15.2).
            self.expect_100_continue = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is complete, or stands before an offer to go on in another protocol."""
        if not self.parser.should_upgrade():
            self._another_ended = True
            self.scope["extensions"] = _WITH_WHOLE_BODY
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Remember which request is being answered: others may wait behind it."""
        self._begun = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused."""
        if self._head_too_large:
            self._refuse_head()
        else:
            self._end_head()
            super().send_400_response(msg)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1, as a server may that does not know the protocol offered (RFC 9110, 7.8).

        httptools stops behind such a head, and uvicorn would take the body for empty: clients that offer HTTP/2 in
        the clear would lose it. The head is parsed again without the offer; the headers are handed on as they came.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("Invalid HTTP request received.")
            return
        self._declined_headers = self.headers
        closes = any(name == b"connection" and b"close" in value.lower() for name, value in self.headers)
        kept = [(name, value) for name, value in self.headers if name not in {b"connection", b"upgrade"}]
        lines = [b"%b: %b\r\n" % pair for pair in (kept + [(b"connection", b"close")] * closes)]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self.url, b"".join(lines)) + rest)

    def _make_room(self) -> None:
        """Close whatever waits for a request or for the rest of a head, for the sake of those who will come next."""
        now = self.loop.time()
        if now - BoundedProtocol._looked_for_room < ROOM_SECONDS:
            return
        BoundedProtocol._looked_for_room = now
        for other in list(self.connections):
            if isinstance(other, BoundedProtocol) and (other.cycle is None or other.cycle.response_complete):
                other.transport.close()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse_head(self) -> None:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._end_head()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % (status, status.phrase.encode())
        )
        self.transport.close()

    def _end_head(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
