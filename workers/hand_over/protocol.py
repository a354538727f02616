"""HTTP answers of which the head counts by itself: whatever is wrong with what comes behind it, the status was said."""

import re
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler


MOST_HEAD_BYTES: Final = 65_536

_END: Final = re.compile(rb"\r?\n\r?\n")
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
"""An answer that another one follows (RFC 9110, 15.2)."""


class _HeadFirst(ResponseHandler):
    """Gives aiohttp's parser the head of an answer before the rest that came with it.

    In one piece it loses the answer for what follows: the body of a 204, which has none (a common fault of
    applications, RFC 9110, 15.3.5), would be read as the next answer, and a message that was taken be sent again.
    """

    _head: bytearray | None = None

    def set_response_params(self, **options: Any) -> None:
        """The next answer is awaited."""
        self._head = bytearray()
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        if self._head is None or not data:
            super().data_received(data)
            return
        self._head += data
        held = bytes(self._head)
        end = _END.search(held)
        if end is None:
            if len(held) > MOST_HEAD_BYTES:
                self._head = None
                super().data_received(held)
            return
        head, rest = held[: end.end()], held[end.end() :]
        self._head = bytearray() if _INTERIM.match(head) else None
        super().data_received(head)
        if rest:
            self.data_received(rest)


class Connector(aiohttp.TCPConnector):
    """A connector whose connections read answers so."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no option for it; the test of an answer with a body behind a 204 tells if this has moved.
        self._factory = partial(_HeadFirst, loop=self._loop)  # type: ignore[assignment] # partial is invariant
