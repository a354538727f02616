"""Reads a body within its bounds: bytes are counted as they arrive, and the whole must be there in time."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.types import Receive

from ingress.incoming import IncomingArea, IncomingFile
from ingress.refusals import BodyLate, TooLarge
from shared.errors import PenstockError, StoreAway
from shared.providers.interface import BodyCheck, Inbound
from shared.sealing import Keys


MEMORY_BYTES: Final = 64 * 1024
"""Bodies up to this size stay in memory and go into the row; larger ones go through a file to the blob store."""

LAST_WRITE_SECONDS: Final = 1.0
"""How long the end of a large body may take on its way to the file: the answer is due 4 s after the last byte."""


class SenderGone(PenstockError):
    """The connection ended before the body did: nobody is there to be answered."""


@dataclass(frozen=True, slots=True)
class Body:
    """A complete body, sealed: in memory (``sealed``), or in ``file``, which its taker discards."""

    size: int
    sha256: bytes
    sealed: bytes | None
    file: IncomingFile | None


class BodyReader:
    """Reads, checks and seals bodies."""

    def __init__(self, keys: Keys, area: IncomingArea) -> None:
        self._keys = keys
        self._area = area

    async def read(
        self, receive: Receive, declared: int, inbound: Inbound, check: BodyCheck | None, event_id: UUID
    ) -> Body:
        """The body, once ``check`` passed; ``declared`` is its Content-Length, 0 when it has none.

        Raises TooLarge, BodyLate, NotAuthentic (from ``check``), StoreAway (no room for it), SenderGone.
        """
        limit = inbound.max_body_bytes
        if declared > limit:
            raise TooLarge("the declared length is over the limit")
        deadline = asyncio.timeout(inbound.body_seconds)
        large: _LargeBody | None = None
        try:
            async with deadline:
                body, more = await _next(receive)
                while more and len(body) <= MEMORY_BYTES:
                    piece, more = await _next(receive)
                    body += piece
                if len(body) > limit:
                    raise TooLarge("more bytes came than the limit allows")
                if len(body) > MEMORY_BYTES:
                    large = _LargeBody(IncomingFile(self._area, self._keys, event_id), check)
                    return await large.read(receive, body, more=more, limit=limit, deadline=deadline)
        except TimeoutError:
            if large and large.writing:
                raise StoreAway("the temporary area does not take what is written to it") from None
            raise BodyLate("the body did not arrive in time") from None
        finally:
            if large:
                large.let_go()
        if check:
            check.update(body)
            check.finish()
        return Body(len(body), hashlib.sha256(body).digest(), self._keys.seal(body, event_id), None)


class _LargeBody:
    """Takes a body piece by piece, each in a thread: digest, signature, sealing and file wait for no event loop."""

    def __init__(self, file: IncomingFile, check: BodyCheck | None) -> None:
        self.writing = False
        self._file = file
        self._handed_over = False
        self._check = check
        self._digest = hashlib.sha256()
        self._size = 0

    async def read(self, receive: Receive, piece: bytes, *, more: bool, limit: int, deadline: asyncio.Timeout) -> Body:
        """The whole body, beginning with ``piece``. Raises TooLarge, StoreAway, SenderGone, NotAuthentic."""
        while True:
            self._size += len(piece)
            if self._size > limit:
                raise TooLarge("more bytes came than the limit allows")
            self._file.reserve(len(piece))
            if not more:
                deadline.reschedule(asyncio.get_running_loop().time() + LAST_WRITE_SECONDS)
            self.writing = True
            await asyncio.to_thread(self._take, piece, last=not more)
            self.writing = False
            if not more:
                break
            piece, more = await _next(receive)
        if self._check:
            self._check.finish()
        self._handed_over = True
        return Body(self._size, self._digest.digest(), None, self._file)

    def let_go(self) -> None:
        """Delete the file unless the body was handed over."""
        if not self._handed_over:
            self._file.discard_soon()

    def _take(self, piece: bytes, *, last: bool) -> None:
        self._digest.update(piece)
        if self._check:
            self._check.update(piece)
        self._file.write(piece)
        if last:
            self._file.finish()


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise SenderGone("the connection ended before the body did")
    return message.get("body", b""), message.get("more_body", False)
