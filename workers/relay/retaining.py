"""Applies ``[retention]``: removes what is old, in chunks, for a short time at each look, when little waits."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from shared.blob_removal import AT_ONCE, Removal
from shared.blobs import BlobStore
from shared.configuration import Configuration
from shared.providers.registry import PROVIDERS
from shared.schedules import Retention
from shared.spool import Spool
from shared.store import blobs, retention, retention_guard
from shared.store.links import remove_calls_of_nobody
from shared.store.locking import REWRITING, alone
from shared.store.postgres import Connection
from shared.store.retention import ENDED, SETTLED, Walk


log = structlog.get_logger("penstock.relay")

LOOK_SECONDS: Final = 2.0
"""So long at most at a time."""

ANSWER_DAYS: Final = 7
"""So long after it came last an answer is still recognised; a call with the span of its refresh in it never recurs."""

_MORE: Final = "more"
"""The position of what is always gone through from its beginning, while there is more."""

_Remove = Callable[[Connection, Sequence[UUID]], Awaitable[int]]
_Chunk = Callable[[], Awaitable[tuple[int, bool]]]
"""Removes a chunk: how much that was, and whether the round has come to its end."""


class Retaining:
    """Removes what is older than the settings say. Any number of relays may: one at a time does.

    The moment is Postgres's, as everything else that is compared with it; the host's clock has to agree.
    """

    def __init__(
        self,
        connection: Connection,
        store: BlobStore,
        configuration: Configuration,
        seconds: float = LOOK_SECONDS,
        *,
        spool: Spool | None = None,
    ) -> None:
        self._connection = connection
        self._removal = Removal(connection, store, spool)
        self._configuration = configuration
        self._seconds = seconds
        self._now = datetime.now(UTC)
        self._ends_at = 0.0

    async def look(self) -> int:
        """Remove for a while, a chunk of each account and kind in turn; returns how much was. Raises StoreAway.

        One account's backlog holds up no other's: a look begins with those that had no turn for longest. Objects of
        the blob store go last: what fails there has kept nothing else from its turn.
        """
        async with alone(self._connection, *REWRITING) as mine:
            if not mine or await retention.is_busy(self._connection):
                return 0
            self._now = await retention_guard.now(self._connection)
            if not await retention_guard.clocks_agree(self._connection, self._now, datetime.now(UTC)):
                return 0
            self._ends_at = time.monotonic() + self._seconds
            removed = await self._walk()
            removed += await self._remove_blobs()
            if removed:
                log.info("what was old was removed", removed=removed)
            return removed

    async def _walk(self) -> int:
        removed = 0
        chunks = await self._chunks()
        turns = deque(await retention.under_way(self._connection, [*chunks]))
        while turns:
            walk = turns.popleft()
            number, last = await chunks[walk]()
            removed += number
            if not last:
                turns.append(walk)
            if time.monotonic() > self._ends_at:
                break
        return removed

    async def _chunks(self) -> dict[Walk, _Chunk]:
        """How a chunk of each walk is removed."""
        chunks: dict[Walk, _Chunk] = {
            Walk("", "", "changes"): self._changes,
            Walk("", "", "calls"): self._calls,
            Walk("", "", "replays"): self._replays,
        }
        for provider, settings in self._configuration.retention.items():
            chunks[Walk(provider, "", "deleted_records")] = partial(self._records, provider, settings)
            for account in await retention.accounts_of(self._connection, provider):
                chunks |= self._of_account(provider, account, settings)
                chunks[Walk(provider, account, "answers")] = partial(self._answers, provider, account)
                chunks[Walk(provider, account, "reconciliations")] = partial(
                    self._reconciliations, provider, account, settings
                )
        return chunks

    def _of_account(self, provider: str, account: str, settings: Retention) -> dict[Walk, _Chunk]:
        kinds: dict[str, tuple[int, Sequence[str], _Remove]] = {
            "bodies": (settings.bodies, SETTLED, retention.remove_bodies),
            "timeline": (settings.timeline, SETTLED, retention.remove_timeline),
            "events": (settings.events, ENDED, retention.remove_events),
        }
        if PROVIDERS[provider].privacy.images:
            kinds["images"] = (settings.images, ENDED, blobs.let_go)
        walks = {Walk(provider, account, what): kind for what, kind in kinds.items()}
        return {walk: partial(self._events, walk, *kind) for walk, kind in walks.items()}

    async def _events(self, walk: Walk, days: int, states: Sequence[str], remove: _Remove) -> tuple[int, bool]:
        before = self._before(days)
        if before is None:
            return 0, True
        async with self._connection.transaction():
            after = await retention.position(self._connection, walk)
            if after is None:
                return 0, True
            if not await retention_guard.may_remove(self._connection, walk, before, days):
                await retention.moved(self._connection, walk, "", 0, last=True)
                return 0, True
            chunk = await retention.old_events(self._connection, walk, after, before, states)
            removed = 0
            if chunk.events:
                removed = await remove(self._connection, chunk.events)
            await retention.moved(self._connection, walk, chunk.position, removed, last=chunk.last)
        return removed, chunk.last

    async def _records(self, provider: str, settings: Retention) -> tuple[int, bool]:
        before = self._before(settings.deleted_records)
        if before is None:
            return 0, True

        async def remove() -> int:
            return await retention.remove_deleted_records(self._connection, provider, before)

        return await self._from_the_beginning(
            Walk(provider, "", "deleted_records"), remove, before, settings.deleted_records
        )

    async def _answers(self, provider: str, account: str) -> tuple[int, bool]:
        before = self._now - timedelta(days=ANSWER_DAYS)

        async def remove() -> int:
            return await retention.remove_answers(self._connection, provider, account, before)

        return await self._from_the_beginning(Walk(provider, account, "answers"), remove)

    async def _reconciliations(self, provider: str, account: str, settings: Retention) -> tuple[int, bool]:
        before = self._before(settings.events)
        if before is None:
            return 0, True

        async def remove() -> int:
            return await retention.remove_reconciliations(self._connection, provider, account, before)

        return await self._from_the_beginning(Walk(provider, account, "reconciliations"), remove)

    async def _replays(self) -> tuple[int, bool]:
        days = [settings.events for settings in self._configuration.retention.values()]
        before = self._before(max(days, default=0)) if all(days) else None
        if before is None:
            return 0, True

        async def remove() -> int:
            return await retention.remove_replays(self._connection, before)

        return await self._from_the_beginning(Walk("", "", "replays"), remove)

    async def _from_the_beginning(
        self, walk: Walk, remove: Callable[[], Awaitable[int]], before: datetime | None = None, days: int = 0
    ) -> tuple[int, bool]:
        """A chunk of what is found without a position: by its age. Guarded where ``before`` is given."""
        async with self._connection.transaction():
            if await retention.position(self._connection, walk) is None:
                return 0, True
            if before is not None and not await retention_guard.may_remove(self._connection, walk, before, days):
                await retention.moved(self._connection, walk, "", 0, last=True)
                return 0, True
            removed = await remove()
            last = removed < retention.CHUNK_ROWS
            await retention.moved(self._connection, walk, "" if last else _MORE, removed, last=last)
        return removed, last

    async def _calls(self) -> tuple[int, bool]:
        """Finished calls that no event leads to; each goes with its last link, this finds what is left all the same."""
        walk = Walk("", "", "calls")
        async with self._connection.transaction():
            after = await retention.position(self._connection, walk)
            if after is None:
                return 0, True
            removed, where, last = await remove_calls_of_nobody(self._connection, int(after or 0), retention.CHUNK_ROWS)
            await retention.moved(self._connection, walk, str(where), removed, last=last)
        return removed, last

    async def _changes(self) -> tuple[int, bool]:
        walk = Walk("", "", "changes")
        async with self._connection.transaction():
            after = await retention.position(self._connection, walk)
            if after is None:
                return 0, True
            before = await self._changes_before()
            removed, where, last = await retention.remove_changes(self._connection, after, before)
            await retention.moved(self._connection, walk, where, removed, last=last)
        return removed, last

    async def _changes_before(self) -> Mapping[str, datetime]:
        """Before when those of each provider go; a provider of which too much would go is left out."""
        moments: dict[str, datetime] = {}
        for provider, settings in self._configuration.retention.items():
            before = self._before(settings.changes)
            if before is None:
                continue
            mine = Walk(provider, "", "changes")
            await retention.position(self._connection, mine)
            if await retention_guard.may_remove(self._connection, mine, before, settings.changes):
                moments[provider] = before
        return moments

    async def _remove_blobs(self) -> int:
        """Go on through the blob store, and remove what nobody names: that was let go, or was found long enough ago."""
        await self._find_blobs()
        found = await blobs.found_due(self._connection)
        may = not found or await retention_guard.may_remove_found(self._connection, found)
        removed = 0
        while True:
            looked_at, gone = await self._removal.remove_due(found=may)
            removed += gone
            if looked_at < AT_ONCE or time.monotonic() > self._ends_at:
                return removed

    async def _find_blobs(self) -> None:
        walk = retention_guard.BLOBS
        if walk not in await retention.under_way(self._connection, [walk]):
            return
        at = await retention.position(self._connection, walk)
        if at is None:
            return
        seen, _, after = at.partition(" ")
        listed = await self._removal.find([*PROVIDERS], after, self._ends_at)
        objects = int(seen or 0) + listed.objects
        async with self._connection.transaction():
            if listed.last:
                await retention.note_listed(self._connection, walk, objects)
            await retention.moved(self._connection, walk, f"{objects} {listed.position}", 0, last=listed.last)

    def _before(self, days: int) -> datetime | None:
        """What is older goes; None: nothing does."""
        return self._now - timedelta(days=days) if days else None
