"""The one place that removes objects of the blob store: what no event and no record names, and finding such.

A process may die between an object and its row, in both directions. So an image's or a file's row comes before the
object and goes after it; a body's object comes before its event and goes after it. What is left over has a row that
says when to look at it, or is found by going through the store.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final, NamedTuple

import structlog

from shared.blob_keys import BODIES, Kept
from shared.blobs import BlobStore
from shared.errors import StoreAway
from shared.spool import Spool
from shared.store import blobs
from shared.store.blobs import Due
from shared.store.postgres import Connection


log = structlog.get_logger("penstock.blobs")

AT_ONCE: Final = 100
SIDE_BY_SIDE: Final = 10


class Listed(NamedTuple):
    """How far a walk over the store has come: to which key, past how many objects, and whether that is the end."""

    position: str
    objects: int
    last: bool


class Removal:
    """Removes objects that nobody names.

    Without a ``spool`` nobody can tell whether an entry there names a body that was found: those stay.
    """

    def __init__(self, connection: Connection, store: BlobStore, spool: Spool | None) -> None:
        self._connection = connection
        self._store = store
        self._spool = spool

    async def remove_due(self, *, found: bool = True) -> tuple[int, int]:
        """Look at some that are due, and remove those that nobody names; returns how many of each. Raises StoreAway.

        The object goes first, while its row is locked: whoever dies in between leaves a row that leads to it.
        """
        spooled = await self._spooled() if found and await blobs.found_due(self._connection) else set[str]()
        async with self._connection.transaction():
            due = await blobs.due(self._connection, AT_ONCE, found=found, bodies=spooled is not None)
            removed = await self._remove(due, spooled or set())
        return len(due), removed

    async def remove_of(self, provider: str, account: str) -> int:
        """Remove all of an account that nobody names, however young; those just put are waited for. Raises StoreAway.

        Returns how many. What an entry of the spool names stays.
        """
        await self._wait_for_young(provider, account)
        spooled, removed, after = await self._spooled(), 0, ""
        while True:
            async with self._connection.transaction():
                due = await blobs.unheld_of(self._connection, provider, account, after, AT_ONCE, young=False)
                bodies_too = [each for each in due if spooled is not None or not _is_body(each.kept.key)]
                removed += await self._remove(bodies_too, spooled or set())
            if len(due) < AT_ONCE:
                return removed
            after = due[-1].kept.key

    async def find(self, providers: Collection[str], after: str, ends_at: float) -> Listed:
        """Go on through the whole store behind ``after``, and note what has no row. Raises StoreAway."""
        seen, position = 0, after
        async for keys in self._keys(providers, after):
            await self.note(providers, keys)
            seen, position = seen + len(keys), keys[-1]
            if time.monotonic() > ends_at:
                return Listed(position, seen, last=False)
        return Listed("", seen, last=True)

    async def find_of(self, providers: Collection[str], provider: str, account: str, days: Collection[str]) -> None:
        """Note what has no row of one account, and the bodies of these days. Raises StoreAway."""
        for prefix in (f"{provider}/{account}/", *(f"{BODIES}/{day}/" for day in days)):
            async for keys in self._store.list(prefix):
                await self.note(providers, keys)

    async def note(self, providers: Collection[str], keys: Sequence[str]) -> int:
        """Note those of these objects that have no row; returns how many nobody names."""
        objects = [kept for key in keys if (kept := Kept.of(key, providers)) is not None]
        return await blobs.note_found(self._connection, objects)

    async def days(self) -> Sequence[str]:
        """The days of which bodies lie here. Raises StoreAway."""
        return await self._store.folders(BODIES)

    async def _keys(self, providers: Collection[str], after: str) -> AsyncIterator[Sequence[str]]:
        """All keys that can be Penstock's, in order, in batches; what else lies in the bucket is none of its business.

        Folder after folder: a local one lists in no order, and only what is sorted can be gone on with.
        """
        for top in sorted({BODIES, *providers}):
            for folder in await self._store.folders(top):
                prefix = f"{top}/{folder}/"
                if prefix < after and not after.startswith(prefix):
                    continue
                async for keys in self._store.list(prefix, after if after.startswith(prefix) else ""):
                    yield keys

    async def _remove(self, due: Sequence[Due], spooled: set[str]) -> int:
        unheld = [each.kept.key for each in due if not each.held]
        gone = [key for key in unheld if key not in spooled]
        for start in range(0, len(gone), SIDE_BY_SIDE):
            await asyncio.gather(*(self._store.delete(key) for key in gone[start : start + SIDE_BY_SIDE]))
        held = [each.kept.key for each in due if each.held]
        await blobs.settle(self._connection, held=held, removed=gone, later=[*spooled.intersection(unheld)])
        return len(gone)

    async def _wait_for_young(self, provider: str, account: str) -> None:
        """A worker that has put an object may be about to commit what names it."""
        ends_at = time.monotonic() + blobs.LONGEST_SECONDS
        while await blobs.unheld_of(self._connection, provider, account, "", 1, young=True):
            if time.monotonic() > ends_at:
                return
            await asyncio.sleep(1)

    async def _spooled(self) -> set[str] | None:
        """The keys that entries of the spool name; None where that cannot be told."""
        if self._spool is None:
            return None
        try:
            return await self._spool.blobs()
        except StoreAway as error:
            log.warning("bodies that nobody names stay: the spool may name them", reason=str(error))
            return None


def _is_body(key: str) -> bool:
    return key.startswith(f"{BODIES}/")
