"""Applies ``[retention]``: removes what is old, in chunks, for a short time at each look, when little waits."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from shared.blobs import BlobStore
from shared.configuration import Configuration
from shared.providers.registry import PROVIDERS
from shared.schedules import Retention
from shared.store import retention
from shared.store.locking import REWRITING, alone
from shared.store.postgres import Connection
from shared.store.retention import ENDED, SETTLED, OldEvent, Walk


log = structlog.get_logger("penstock.relay")

LOOK_SECONDS: Final = 2.0
"""So long at most at a time."""

ANSWER_DAYS: Final = 7
"""So long after it came last an answer is still recognised; a call with the span of its refresh in it never recurs."""

_MORE: Final = "more"
"""The position of what is always gone through from its beginning, while there is more."""

_Remove = Callable[[Sequence[OldEvent]], Awaitable[int]]
_Chunk = Callable[[], Awaitable[tuple[int, bool]]]
"""Removes a chunk: how much that was, and whether the round has come to its end."""


class Retaining:
    """Removes what is older than the settings say. Any number of relays may: one at a time does."""

    def __init__(
        self, connection: Connection, blobs: BlobStore, configuration: Configuration, seconds: float = LOOK_SECONDS
    ) -> None:
        self._connection = connection
        self._blobs = blobs
        self._configuration = configuration
        self._seconds = seconds

    async def look(self) -> int:
        """Remove for a while, a chunk of each account and kind in turn; returns how much was. Raises StoreAway.

        One account's backlog holds up no other's: a look begins with those that had no turn for longest.
        """
        async with alone(self._connection, *REWRITING) as mine:
            if not mine or await retention.is_busy(self._connection):
                return 0
            ends_at = time.monotonic() + self._seconds
            removed = 0
            chunks = await self._chunks()
            turns = deque(await retention.under_way(self._connection, [*chunks]))
            while turns:
                walk = turns.popleft()
                number, last = await chunks[walk]()
                removed += number
                if not last:
                    turns.append(walk)
                if time.monotonic() > ends_at:
                    break
            if removed:
                log.info("what was old was removed", removed=removed)
            return removed

    async def _chunks(self) -> dict[Walk, _Chunk]:
        """How a chunk of each walk is removed."""
        chunks: dict[Walk, _Chunk] = {Walk("", "", "changes"): self._changes}
        for provider, settings in self._configuration.retention.items():
            chunks[Walk(provider, "", "deleted_records")] = partial(self._records, provider, settings)
            for account in await retention.accounts_of(self._connection, provider):
                chunks |= self._of_account(provider, account, settings)
                chunks[Walk(provider, account, "answers")] = partial(self._answers, provider, account)
        return chunks

    def _of_account(self, provider: str, account: str, settings: Retention) -> dict[Walk, _Chunk]:
        has_images = PROVIDERS[provider].privacy.images
        prefix = f"{provider}/{account}/" if has_images else ""
        kinds: dict[str, tuple[int, Sequence[str], _Remove]] = {
            "bodies": (settings.bodies, SETTLED, self._bodies),
            "timeline": (settings.timeline, SETTLED, self._timeline),
            "events": (settings.events, ENDED, partial(self._whole, prefix)),
        }
        if has_images:
            kinds["images"] = (settings.images, ENDED, partial(self._images, prefix))
        walks = {Walk(provider, account, what): kind for what, kind in kinds.items()}
        return {walk: partial(self._events, walk, *kind) for walk, kind in walks.items()}

    async def _events(self, walk: Walk, days: int, states: Sequence[str], remove: _Remove) -> tuple[int, bool]:
        before = _before(days)
        if before is None:
            return 0, True
        async with self._connection.transaction():
            after = await retention.position(self._connection, walk)
            if after is None:
                return 0, True
            chunk = await retention.old_events(self._connection, walk, after, before, states)
            removed = await remove(chunk.events) if chunk.events else 0
            await retention.moved(self._connection, walk, chunk.position, removed, last=chunk.last)
        return removed, chunk.last

    async def _bodies(self, events: Sequence[OldEvent]) -> int:
        # The blob first: the row is what leads to it, and it is locked.
        for event in events:
            if event.blob is not None:
                await self._blobs.delete(event.blob)
        return await retention.remove_bodies(self._connection, [event.id for event in events])

    async def _timeline(self, events: Sequence[OldEvent]) -> int:
        return await retention.remove_timeline(self._connection, [event.id for event in events])

    async def _images(self, prefix: str, events: Sequence[OldEvent]) -> int:
        removed = 0
        for event in events:
            found = [key async for keys in self._blobs.list(f"{prefix}{event.id}/") for key in keys]
            for key in found:
                await self._blobs.delete(key)
            removed += len(found)
        return removed

    async def _whole(self, prefix: str, events: Sequence[OldEvent]) -> int:
        if prefix:
            await self._images(prefix, events)
        for event in events:
            if event.blob is not None:
                await self._blobs.delete(event.blob)
        return await retention.remove_events(self._connection, [event.id for event in events])

    async def _records(self, provider: str, settings: Retention) -> tuple[int, bool]:
        before = _before(settings.deleted_records)
        if before is None:
            return 0, True
        walk = Walk(provider, "", "deleted_records")
        async with self._connection.transaction():
            removed = await retention.remove_deleted_records(self._connection, provider, before)
            last = removed < retention.CHUNK_ROWS
            await retention.position(self._connection, walk)
            await retention.moved(self._connection, walk, "" if last else _MORE, removed, last=last)
        return removed, last

    async def _answers(self, provider: str, account: str) -> tuple[int, bool]:
        walk, before = Walk(provider, account, "answers"), datetime.now(UTC) - timedelta(days=ANSWER_DAYS)
        async with self._connection.transaction():
            if await retention.position(self._connection, walk) is not None:
                await retention.remove_answers(self._connection, provider, account, before)
                await retention.moved(self._connection, walk, "", 0, last=True)
        return 0, True

    async def _changes(self) -> tuple[int, bool]:
        walk = Walk("", "", "changes")
        before: Mapping[str, datetime] = {
            provider: moment
            for provider, settings in self._configuration.retention.items()
            if (moment := _before(settings.changes)) is not None
        }
        async with self._connection.transaction():
            after = await retention.position(self._connection, walk)
            if after is None:
                return 0, True
            removed, where, last = await retention.remove_changes(self._connection, after, before)
            await retention.moved(self._connection, walk, where, removed, last=last)
        return removed, last


def _before(days: int) -> datetime | None:
    """What is older goes; None: nothing does."""
    return datetime.now(UTC) - timedelta(days=days) if days else None
