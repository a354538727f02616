"""Rotation of master keys, beside running processes: everything that an older key seals is sealed with the newest.

Each step is done for good, and what was done is passed over: broken off, it is simply run again.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from shared.blob_keys import Kept
from shared.blob_removal import Removal
from shared.blobs import BlobMissing, BlobStore
from shared.providers.registry import PROVIDERS
from shared.sealing import BrokenSeal, Keys, Sealed
from shared.spool import Spool
from shared.store import blobs, keys, rotating
from shared.store.postgres import Connection
from shared.store.rotating import Beginning


BODIES: Final = "bodies"
BLOBS: Final = "blobs"
DATA_KEYS: Final = "data keys"
SPOOL: Final = "entries of the spool"


@dataclass(slots=True)
class Rotation:
    """One run. ``done`` and ``left`` count by what it is; ``left`` by the id of the older key too."""

    connection: Connection
    keys: Keys
    blobs: BlobStore
    spool: Spool | None
    done: Counter[str] = field(default_factory=Counter)
    left: Counter[tuple[bytes, str]] = field(default_factory=Counter)

    async def run(self) -> None:
        """Seal anew, and count what could not be. Raises StoreAway."""
        self.done[DATA_KEYS] = await keys.rewrap(self.connection, self.keys)
        await keys.look(self.connection, self.keys)
        async for chunk in rotating.beginnings(self.connection):
            for event in chunk:
                await self._event(event)
        await self._blobs_with_rows()
        for master, count in await keys.wrapped_by(self.connection):
            if master != self.keys.newest:
                self.left[master, DATA_KEYS] = count
        if self.spool is not None:
            await self.spool.erase(lambda event: self._note(Sealed.of(event.body or b""), SPOOL), dry_run=True)
        await rotating.note_rotated(self.connection, None if self.left else self.keys.newest)

    async def _event(self, event: Beginning) -> None:
        try:
            if event.blob is not None:
                await self._blob(Kept(event.blob, event.provider, event.account, event.id))
            elif self._is_old(event.body) or self._is_old(event.head):
                await self._row(event)
        except BlobMissing:
            return
        except BrokenSeal:
            for beginning in (event.body, event.head):
                self._note(Sealed.of(beginning or b""), BODIES)

    async def _row(self, event: Beginning) -> None:
        body, head = await rotating.body_and_head(self.connection, event.id)
        if body is not None and self._is_old(body):
            new = self.keys.seal(self.keys.unseal(body, event.id), event.id, await self._account(event))
            await rotating.replace_body(self.connection, event.id, body, new)
        if head is not None and self._is_old(head):
            new = self.keys.seal(self.keys.unseal(head, event.id), event.id)
            await rotating.replace_head(self.connection, event.id, head, new)
        self.done[BODIES] += 1

    async def _blobs_with_rows(self) -> None:
        """Images, files, and what lies there without a row: all that the store holds has one after the walk over it."""
        removal = Removal(self.connection, self.blobs, self.spool)
        position = ""
        while True:
            listed = await removal.find([*PROVIDERS], position, ends_at=0.0)
            if listed.last:
                break
            position = listed.position
        after = ""
        while kept := await blobs.with_rows(self.connection, after, rotating.CHUNK_ROWS):
            for each in kept:
                with suppress(BlobMissing):
                    await self._blob(each)
            after = kept[-1].key

    async def _blob(self, kept: Kept) -> None:
        held = await self.blobs.sealed_with(kept.key)
        if held is None or not held.by_master or held.key_id == self.keys.newest:
            return
        try:
            content = await self.blobs.read(kept.key, kept.sealed_for)
        except BrokenSeal:
            self._note(held, BLOBS)
            return
        await self.blobs.put(kept.key, content, kept.sealed_for, await self._account(kept))
        self.done[BLOBS] += 1

    async def _account(self, event: Beginning | Kept) -> tuple[str, str] | None:
        """Whose data key seals it; a refused delivery is nobody's."""
        if not event.account:
            return None
        account = (event.provider, event.account)
        if not self.keys.data.left(account):
            await keys.look(self.connection, self.keys)
            await keys.reserve(self.connection, self.keys, [account])
        return account

    def _is_old(self, sealed: bytes | None) -> bool:
        held = Sealed.of(sealed or b"")
        return held is not None and held.by_master and held.key_id != self.keys.newest

    def _note(self, held: Sealed | None, what: str) -> bool:
        if held is not None and held.by_master and held.key_id != self.keys.newest:
            self.left[held.key_id, what] += 1
        return False
