"""Reads a body within its bounds: bytes are counted as they arrive, and the whole must be there in time."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from starlette.types import Receive

from ingress.incoming import IncomingArea, IncomingFile
from ingress.refusals import BodyLate, TooLarge, WrongSignature
from shared.errors import NotAuthentic, PenstockError, StoreAway
from shared.providers.interface import BodyCheck, Inbound
from shared.sealing import Keys


MEMORY_BYTES: Final = 64 * 1024
"""Bodies up to this size stay in memory and go into the row; larger ones go through a file to the blob store."""

GATHERED_BYTES: Final = 256 * 1024
GATHERED_PIECES: Final = 64
"""What is gathered of a large body while a thread takes what came before: each turn of a thread costs the loop time."""

LAST_WRITE_SECONDS: Final = 1.0
"""How long the end of a large body may take on its way to the file: the answer is due 4 s after the last byte."""


class SenderGone(PenstockError):
    """The connection ended before the body did: nobody is there to be answered."""


class Body(NamedTuple):
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
        self,
        receive: Receive,
        declared: int,
        inbound: Inbound,
        check: BodyCheck | None,
        event_id: UUID,
        *,
        account: tuple[str, str] | None = None,
        arrived: bool = False,
    ) -> Body:
        """The body, once ``check`` passed; ``declared`` is its Content-Length, 0 when it has none.

        ``account``: provider and name, with whose data key it is sealed. ``arrived``: all of it is there already, so
        nothing has to be waited for.
        Raises TooLarge, BodyLate, NotAuthentic (from ``check``), StoreAway (no room for it), SenderGone.
        """
        limit = inbound.max_body_bytes
        if declared > limit:
            raise TooLarge("the declared length is over the limit")
        # Nearly every delivery comes in one piece, and a deadline costs more than to receive it.
        body, more = await _next(receive) if arrived else (b"", True)
        if len(body) > limit:
            raise TooLarge("more bytes came than the limit allows")
        if more or len(body) > MEMORY_BYTES:
            return await self._read_on(receive, body, inbound, check, event_id, account, more=more)
        return self._in_memory(body, check, event_id, account)

    async def _read_on(
        self,
        receive: Receive,
        body: bytes,
        inbound: Inbound,
        check: BodyCheck | None,
        event_id: UUID,
        account: tuple[str, str] | None,
        *,
        more: bool,
    ) -> Body:
        """The whole body, beginning with ``body``."""
        limit = inbound.max_body_bytes
        deadline = asyncio.timeout(inbound.body_seconds)
        large: _LargeBody | None = None
        try:
            async with deadline:
                while more and len(body) <= MEMORY_BYTES:
                    piece, more = await _next(receive)
                    body += piece
                if len(body) > limit:
                    raise TooLarge("more bytes came than the limit allows")
                if len(body) > MEMORY_BYTES:
                    large = _LargeBody(IncomingFile(self._area, self._keys, event_id, account), check)
                    return await large.read(receive, body, more=more, limit=limit, deadline=deadline)
        except TimeoutError:
            if large and large.writing:
                raise StoreAway("the temporary area does not take what is written to it") from None
            raise BodyLate("the body did not arrive in time") from None
        finally:
            if large:
                large.let_go()
        return self._in_memory(body, check, event_id, account)

    def _in_memory(self, body: bytes, check: BodyCheck | None, event_id: UUID, account: tuple[str, str] | None) -> Body:
        if check:
            check.update(body)
            try:
                check.finish()
            except NotAuthentic as error:
                raise WrongSignature(error, body) from None
        return Body(len(body), hashlib.sha256(body).digest(), self._keys.seal(body, event_id, account), None)


class _LargeBody:
    """Takes a body in a thread, so that digest, signature, sealing and file wait for no event loop.

    What arrives while the thread works is gathered for its next turn, within bounds.
    """

    def __init__(self, file: IncomingFile, check: BodyCheck | None) -> None:
        self.writing = False
        self._file = file
        self._handed_over = False
        self._check = check
        self._digest = hashlib.sha256()
        self._size = 0
        self._taking: asyncio.Future[None] | None = None

    async def read(self, receive: Receive, piece: bytes, *, more: bool, limit: int, deadline: asyncio.Timeout) -> Body:
        """The whole body, beginning with ``piece``. Raises TooLarge, StoreAway, SenderGone, NotAuthentic."""
        loop = asyncio.get_running_loop()
        pieces = [piece]
        gathered = self._count(piece, limit)
        if not more:
            deadline.reschedule(loop.time() + LAST_WRITE_SECONDS)
        while True:
            turn = self._file.reserve(gathered)
            self._taking = taking = loop.run_in_executor(self._file.threads, self._take, pieces, not more)
            pieces, gathered, ended = [], 0, not more
            while more and gathered < GATHERED_BYTES and len(pieces) < GATHERED_PIECES:
                piece, more = await _next(receive)
                pieces.append(piece)
                gathered += self._count(piece, limit)
                if not more:
                    deadline.reschedule(max(loop.time(), turn) + LAST_WRITE_SECONDS)
                if taking.done() and loop.time() >= turn:
                    break
            self.writing = True
            await taking
            self.writing = False
            if ended:
                break
            # Nothing more is read meanwhile than was gathered: the sender waits.
            await asyncio.sleep(turn - loop.time())
        if self._check:
            self._check.finish()
        self._handed_over = True
        return Body(self._size, self._digest.digest(), None, self._file)

    def let_go(self) -> None:
        """Delete the file unless the body was handed over."""
        if not self._handed_over:
            if self._taking:
                # Nobody asks any more how it went.
                self._taking.add_done_callback(lambda taken: taken.cancelled() or taken.exception())
                self._taking.cancel()
            self._file.discard_soon()

    def _count(self, piece: bytes, limit: int) -> int:
        self._size += len(piece)
        if self._size > limit:
            raise TooLarge("more bytes came than the limit allows")
        return len(piece)

    def _take(self, pieces: Sequence[bytes], last: bool) -> None:  # noqa: FBT001 - run_in_executor knows no keywords
        for piece in pieces:
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
