"""What an event led to, and what became of a record: changes by event and by record, deliveries of the same."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Text, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.shapes import Record
from shared.store.schema import changes, events, handovers, records


SHOWN: Final = 100


class Effect(msgspec.Struct, frozen=True):
    """One change; ``changed`` names the top-level fields. ``id`` is its place in the feed's table, not its number."""

    id: int
    op: str
    provider: str
    account: str
    kind: str
    external_id: str
    changed: Sequence[str]
    event_id: UUID | None
    at: datetime


class HandedOver(msgspec.Struct, frozen=True):
    """One change on its way to one handler."""

    handler: str
    change_id: int
    state: str
    attempts: int
    status: int | None
    error: str | None
    due_at: datetime
    finished_at: datetime | None


class Duplicate(msgspec.Struct, frozen=True):
    """A later delivery of the same."""

    id: UUID
    received_at: datetime


_CHANGE = (
    changes.c.id,
    changes.c.op,
    changes.c.provider,
    changes.c.account,
    changes.c.kind,
    changes.c.external_id,
    changes.c.changed,
    changes.c.event_id,
    changes.c.at,
)


async def effects_of(connection: AsyncConnection, event_id: UUID) -> Sequence[Effect]:
    """The first hundred changes that an event made and the feed has, in their order."""
    statement = (
        select(*_CHANGE)
        .where(changes.c.event_id == event_id, changes.c.seq.is_not(None))
        .order_by(changes.c.id)
        .limit(SHOWN)
    )
    return [Effect(*row) for row in await connection.execute(statement)]


async def handovers_of(connection: AsyncConnection, effects: Sequence[Effect]) -> Sequence[HandedOver]:
    """What the handlers were told of these changes."""
    if not effects:
        return []
    statement = (
        select(
            handovers.c.handler,
            handovers.c.change_id,
            handovers.c.state,
            handovers.c.attempts,
            handovers.c.status,
            handovers.c.error_detail,
            handovers.c.due_at,
            handovers.c.finished_at,
        )
        .where(handovers.c.change_id.in_([effect.id for effect in effects]))
        .order_by(handovers.c.change_id, handovers.c.handler)
    )
    return [HandedOver(*row) for row in await connection.execute(statement)]


async def duplicates_of(connection: AsyncConnection, event_id: UUID) -> Sequence[Duplicate]:
    """The first hundred later deliveries of the same."""
    statement = (
        select(events.c.id, events.c.received_at)
        .where(events.c.duplicate_of == event_id)
        .order_by(events.c.id)
        .limit(SHOWN)
    )
    return [Duplicate(*row) for row in await connection.execute(statement)]


async def record_of(connection: AsyncConnection, key: tuple[str, str, str, str]) -> Record | None:
    """The record of (provider, account, kind, external id)."""
    named = (records.c.provider, records.c.account, records.c.kind, records.c.external_id)
    statement = select(
        *named,
        cast(records.c.data, Text),
        records.c.fetched_at,
        records.c.changed_at,
        records.c.deleted_at,
        records.c.event_id,
    ).where(*(column == value for column, value in zip(named, key, strict=True)))
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else Record(*key, msgspec.Raw(row[4].encode()), *row[5:])


async def history_of(connection: AsyncConnection, key: tuple[str, str, str, str]) -> Sequence[Effect]:
    """The last hundred changes of a record that the feed has, newest first."""
    named = (changes.c.provider, changes.c.account, changes.c.kind, changes.c.external_id)
    statement = (
        select(*_CHANGE)
        .where(*(column == value for column, value in zip(named, key, strict=True)), changes.c.seq.is_not(None))
        .order_by(changes.c.id.desc())
        .limit(SHOWN)
    )
    return [Effect(*row) for row in await connection.execute(statement)]
