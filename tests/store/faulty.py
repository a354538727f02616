"""Stores that fail where they are told to: real ones, behind a face that refuses, loses the answer or dies.

A fault comes before an operation (it is refused) or after it (it is done, and nobody is told); a death is told from a
refusal by nobody catching it, and by the connection that goes with the process.
"""

from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import obstore
from obstore.store import MemoryStore

from shared.blobs import BlobStore
from shared.errors import StoreAway
from shared.sealing import Keys
from shared.spool import Entry, Spool
from shared.store.inbox import NewEvent


T = TypeVar("T")

FAULTS = ("refused", "lost", "died before", "died after")


class Died(BaseException):
    """The process is no more: nothing but the end of its connections happens after this."""


class Faults:
    """Which operation of a move fails and how; ``done`` counts those that came to pass."""

    def __init__(self) -> None:
        self.plan: dict[int, str] = {}
        self.done = 0
        self._operation = 0

    def begin(self, plan: dict[int, str]) -> None:
        """A move begins: its operations are counted from 0."""
        self.plan, self._operation = plan, 0

    async def around(self, operation: Awaitable[T], away: Exception) -> T:
        """Do it, or not, or do it without saying so."""
        fault = self.plan.get(self._operation)
        self._operation += 1
        if fault in {"refused", "died before"}:
            self.done += 1
            if hasattr(operation, "close"):
                operation.close()
            raise Died if fault == "died before" else away
        result = await operation
        if fault is not None:
            self.done += 1
            raise Died if fault == "died after" else away
        return result


class FaultyBlobs(BlobStore):
    """A blob store whose objects lie in memory."""

    def __init__(self, keys: Keys, faults: Faults) -> None:
        self.memory = MemoryStore()
        self._faults = faults
        super().__init__(self.memory, url="memory:", folder=None, keys=keys)

    async def put(
        self, key: str, content: bytes | memoryview, event_id: UUID, account: tuple[str, str] | None = None
    ) -> None:
        """Keep, or not."""
        await self._faults.around(super().put(key, content, event_id, account), self._away())

    async def put_file(self, key: str, path: Path) -> None:
        """Keep, or not."""
        await self._faults.around(super().put_file(key, path), self._away())

    async def read(self, key: str, event_id: UUID) -> bytes:
        """Read, or not."""
        return await self._faults.around(super().read(key, event_id), self._away())

    async def delete(self, key: str) -> None:
        """Remove, or not."""
        await self._faults.around(super().delete(key), self._away())

    async def folders(self, prefix: str) -> Sequence[str]:
        """List, or not."""
        return await self._faults.around(super().folders(prefix), self._away())

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[Sequence[str]]:
        """List, or not."""
        await self._faults.around(_nothing(), self._away())
        async for keys in super().list(prefix, after):
            yield keys

    def _away(self) -> StoreAway:
        return StoreAway("the blob store does not answer")


class FaultySpool(Spool):
    """A spool in a real Redis."""

    def __init__(self, redis: Any, faults: Faults) -> None:
        super().__init__(redis)
        self._faults = faults

    async def append(self, events: Sequence[NewEvent], wait_seconds: float) -> bool:
        """Append, or not."""
        return await self._faults.around(super().append(events, wait_seconds), StoreAway("Redis"))

    async def read(self, limit: int) -> list[Entry]:
        """Read, or not."""
        return await self._faults.around(super().read(limit), StoreAway("Redis"))

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Delete, or not."""
        await self._faults.around(super().remove(entries), StoreAway("Redis"))

    async def blobs(self) -> set[str] | None:
        """Look, or not."""
        return await self._faults.around(super().blobs(), StoreAway("Redis"))


class FaultyPostgres:
    """A connection to a real Postgres."""

    def __init__(self, real: "asyncpg.Connection[asyncpg.Record]", faults: Faults) -> None:
        self._real = real
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if name not in {"fetch", "fetchrow", "fetchval", "execute", "executemany"}:
            return attribute

        async def faulty(*arguments: Any, **options: Any) -> Any:
            return await self._faults.around(attribute(*arguments, **options), cut())

        return faulty

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[None]:
        """A transaction whose commit may fail, or succeed without an answer."""
        transaction = self._real.transaction(**options)
        open_ = False

        async def begin() -> None:
            nonlocal open_
            await transaction.start()
            open_ = True

        async def commit() -> None:
            nonlocal open_
            await transaction.commit()
            open_ = False

        try:
            await self._faults.around(begin(), cut())
            yield
            await self._faults.around(commit(), cut())
        finally:
            if open_:
                await transaction.rollback()


class Hand:
    """Of a worker process what putting blobs takes."""

    def __init__(self, connection: Any, blobs: BlobStore) -> None:
        self.blobs = blobs
        self.pool = self
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """Its connection."""
        yield self._connection

    async def may_seal(self, provider: str, account: str) -> None:
        """With the master key it always may."""


def cut() -> Exception:
    """What a connection that is cut says."""
    return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


def objects(blobs: FaultyBlobs) -> Collection[str]:
    """What lies there."""
    return {found["path"] for batch in obstore.list(blobs.memory) for found in batch}


async def _nothing() -> None:
    """An operation that only may fail."""
