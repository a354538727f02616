"""Moves what ingress spooled into Postgres, oldest first, under the same ids, and wakes the workers.

Any number of relays may do this at once, and each may die anywhere: an entry is deleted after the commit of its event,
and an event that is there already is left as it is.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from uuid import UUID

import structlog

from shared.spool import Entry, Spool
from shared.store.inbox import NewEvent, insert
from shared.store.postgres import ABOUT_DATA, Connection


log = structlog.get_logger("penstock.relay")

BATCH_EVENTS = 200
"""At most 64 KiB of body each: about 13 MB in memory."""

ROUND_EVENTS = 10_000
ROUND_SECONDS = 5.0
"""A round ends in good time, however slow the stores are: one that lasts long is taken for one that hangs."""

# Any fixed number but that of ``number_changes``: it names the lock among all users of this database.
_LOCK = 0x73706F6F6C


class Draining:
    """Empties the spool. ``announce`` takes a provider and event ids, and may block."""

    def __init__(
        self, spool: Spool, providers: Collection[str], announce: Callable[[str, Sequence[UUID]], None]
    ) -> None:
        self._spool = spool
        self._providers = providers
        self._announce = announce

    async def drain(self, connection: Connection) -> int:
        """Move what is there, or a part of it; returns how many events that was.

        Raises StoreAway when Redis does not answer.
        """
        drained, ends_at = 0, time.monotonic() + ROUND_SECONDS
        while drained < ROUND_EVENTS and time.monotonic() < ends_at and (moved := await self._move(connection)):
            drained += moved
        if drained:
            log.info("the spool was drained", events=drained)
        return drained

    async def _move(self, connection: Connection) -> int:
        """One batch; 0 when there is nothing, or another relay is at it."""
        faults: dict[bytes, str] = {}
        async with connection.transaction():
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                return 0
            entries = await self._spool.read(BATCH_EVENTS)
            kept = await self._keep(connection, entries, faults)
        for entry in entries:
            if reason := faults.get(entry.id):
                log.error(
                    "an entry of the spool is set aside",
                    entry=entry.id.decode(),
                    event_id=str(entry.event.id) if entry.event else None,
                    account=entry.event.account if entry.event else None,
                    reason=reason,
                )
                await self._spool.set_aside(entry, reason)
        await self._spool.remove([entry for entry in entries if entry.id not in faults])
        for provider in sorted({event.provider for event in kept}.intersection(self._providers)):
            ids = [event.id for event in kept if event.provider == provider]
            await asyncio.to_thread(self._announce, provider, ids)
        return len(entries)

    async def _keep(self, connection: Connection, entries: Sequence[Entry], faults: dict[bytes, str]) -> list[NewEvent]:
        """Insert what can be; ``faults`` gets the reason for every other entry."""
        found: list[tuple[bytes, NewEvent]] = []
        for entry in entries:
            if entry.event:
                found.append((entry.id, entry.event))
            else:
                faults[entry.id] = entry.fault
        if not found:
            return []
        events = [event for _, event in found]
        if await _insert(connection, events) is None:
            return events
        # One row must not hold the others up: each is tried alone.
        kept: list[NewEvent] = []
        for entry_id, event in found:
            if refusal := await _insert(connection, [event]):
                faults[entry_id] = f"Postgres refuses the row: {refusal}"
            else:
                kept.append(event)
        return kept


async def _insert(connection: Connection, events: Sequence[NewEvent]) -> str | None:
    """Insert within a savepoint; returns what Postgres has against the rows."""
    try:
        async with connection.transaction():
            await insert(connection, events)
    except ABOUT_DATA as error:
        return f"{type(error).__name__}: {error}"
    return None
