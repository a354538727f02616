"""Applies ``[retention]``: removes what is old, in chunks, for a short time at each look, when little waits."""

import time
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

_Remove = Callable[[Sequence[OldEvent]], Awaitable[int]]


class Retaining:
    """Removes what is older than the settings say. Any number of relays may: one at a time does."""

    def __init__(self, connection: Connection, blobs: BlobStore, configuration: Configuration) -> None:
        self._connection = connection
        self._blobs = blobs
        self._configuration = configuration
        self._ends_at = 0.0

    async def look(self) -> int:
        """Remove for a while; returns how much was. Raises StoreAway."""
        async with alone(self._connection, *REWRITING) as mine:
            if not mine or await retention.is_busy(self._connection):
                return 0
            self._ends_at = time.monotonic() + LOOK_SECONDS
            removed = 0
            for provider, settings in self._configuration.retention.items():
                for account in await retention.accounts_of(self._connection, provider):
                    removed += await self._account(provider, account, settings)
                removed += await self._records(provider, settings)
            removed += await self._changes()
            if removed:
                log.info("what was old was removed", removed=removed)
            return removed

    async def _account(self, provider: str, account: str, settings: Retention) -> int:
        removed = await self._events(Walk(provider, account, "bodies"), settings.bodies, SETTLED, self._bodies)
        removed += await self._events(Walk(provider, account, "timeline"), settings.timeline, SETTLED, self._timeline)
        if PROVIDERS[provider].privacy.images:
            images = partial(self._images, f"{provider}/{account}/")
            removed += await self._events(Walk(provider, account, "images"), settings.images, ENDED, images)
        whole = partial(self._whole, f"{provider}/{account}/" if PROVIDERS[provider].privacy.images else "")
        return removed + await self._events(Walk(provider, account, "events"), settings.events, ENDED, whole)

    async def _events(self, walk: Walk, days: int, states: Sequence[str], remove: _Remove) -> int:
        """Chunks of one account's old events, until the round ends or the time is up."""
        total = 0
        before = _before(days)
        while before is not None and time.monotonic() < self._ends_at:
            async with self._connection.transaction():
                after = await retention.position(self._connection, walk)
                if after is None:
                    break
                chunk = await retention.old_events(self._connection, walk, after, before, states)
                removed = await remove(chunk.events) if chunk.events else 0
                await retention.moved(self._connection, walk, chunk.position, removed, last=chunk.last)
            total += removed
            if chunk.last:
                break
        return total

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

    async def _records(self, provider: str, settings: Retention) -> int:
        total = 0
        walk = Walk(provider, "", "deleted_records")
        before = _before(settings.deleted_records)
        while before is not None and time.monotonic() < self._ends_at:
            async with self._connection.transaction():
                removed = await retention.remove_deleted_records(self._connection, provider, before)
                if removed:
                    await retention.position(self._connection, walk)
                    await retention.moved(self._connection, walk, "", removed, last=True)
            total += removed
            if removed < retention.CHUNK_ROWS:
                break
        return total

    async def _changes(self) -> int:
        walk = Walk("", "", "changes")
        before: Mapping[str, datetime] = {
            provider: moment
            for provider, settings in self._configuration.retention.items()
            if (moment := _before(settings.changes)) is not None
        }
        total = 0
        while time.monotonic() < self._ends_at:
            async with self._connection.transaction():
                after = await retention.position(self._connection, walk)
                if after is None:
                    break
                removed, where, last = await retention.remove_changes(self._connection, after, before)
                await retention.moved(self._connection, walk, where, removed, last=last)
            total += removed
            if last:
                break
        return total


def _before(days: int) -> datetime | None:
    """What is older goes; None: nothing does."""
    return datetime.now(UTC) - timedelta(days=days) if days else None
