"""Events as people look at them: lists, one with everything that happened to it, and its body as it was kept."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import structs
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.store.reading.connecting import in_batches
from shared.store.reading.shapes import Event, EventDetail, Fetch, Head, Step, error_of
from shared.store.schema import event_fetches, events, fetches, timeline


UrlOf = Callable[[str, str, str], str]
"""(provider, account, path) -> the URL that is called; the path alone where the account is gone."""


class Filters(NamedTuple):
    """Which events; None means any. ``before`` is an id: only older events, for paging.

    Discarded events are a list of their own: no other shows them.
    """

    provider: str | None = None
    account: str | None = None
    state: str | None = None
    since: datetime | None = None
    before: UUID | None = None
    error: str | None = None
    discarded: bool = False


_ANY = Filters()


class Discarded(NamedTuple):
    """When an operator discarded an event, and why."""

    at: datetime
    reason: str


class KeptBody(NamedTuple):
    """A body as it lies in the store: sealed bytes, or the key of the blob that holds them."""

    sealed: bytes | None
    blob: str | None


_ATTEMPTS = (
    select(func.coalesce(func.max(fetches.c.attempts), 0))
    .select_from(event_fetches.join(fetches, event_fetches.c.fetch_id == fetches.c.id))
    .where(event_fetches.c.event_id == events.c.id)
    .scalar_subquery()
    .label("attempts")
)
COLUMNS = (
    events.c.id,
    events.c.provider,
    events.c.account,
    events.c.state,
    events.c.received_at,
    events.c.finished_at,
    events.c.duplicate_of,
    _ATTEMPTS,
    events.c.durability,
    events.c.body_sha256,
    events.c.body_bytes,
    events.c.event_types,
    events.c.error_reason,
    events.c.error_detail,
)
"""What an ``Event`` is made of, by ``event_from``."""


async def list_events(
    connection: AsyncConnection, filters: Filters = _ANY, *, limit: int = 50
) -> AsyncIterator[Sequence[Event]]:
    """Events, newest first (an id is a UUID of version 7: it orders by time), in batches; ``limit`` 0 is all."""
    statement = filtered(select(*COLUMNS), filters).order_by(events.c.id.desc())
    async for batch in in_batches(connection, statement.limit(limit) if limit else statement, event_from):
        yield batch


def filtered(statement: Select[Any], filters: Filters) -> Select[Any]:
    """The statement on ``events``, narrowed down to these."""
    for column, value in (
        (events.c.provider, filters.provider),
        (events.c.account, filters.account),
        (events.c.state, filters.state),
        (events.c.error_reason, filters.error),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if filters.state is None:
        # Strangers' deliveries are not among one's own unless they are asked for.
        statement = statement.where(events.c.state != "quarantined")
    discarded = events.c.discarded_at
    statement = statement.where(discarded.is_not(None) if filters.discarded else discarded.is_(None))
    if filters.since is not None:
        statement = statement.where(events.c.received_at >= filters.since)
    if filters.before is not None:
        statement = statement.where(events.c.id < filters.before)
    return statement


async def show_event(connection: AsyncConnection, event_id: UUID, url_of: UrlOf) -> EventDetail | None:
    """One event with its fetches and its timeline, oldest first; None where there is no such event."""
    row = (await connection.execute(select(*COLUMNS).where(events.c.id == event_id))).one_or_none()
    if row is None:
        return None
    calls = await connection.execute(
        select(fetches)
        .join(event_fetches, event_fetches.c.fetch_id == fetches.c.id)
        .where(event_fetches.c.event_id == event_id)
        .order_by(fetches.c.id)
    )
    steps = await connection.execute(
        select(timeline.c.at, timeline.c.step, timeline.c.detail)
        .where(timeline.c.event_id == event_id)
        .order_by(timeline.c.id)
    )
    return EventDetail(
        **structs.asdict(event_from(*row)),
        fetches=[_fetch(call, url_of) for call in calls],
        timeline=[Step(at, step, detail) for at, step, detail in steps],
    )


async def head_of(connection: AsyncConnection, event_id: UUID) -> Head | None:
    """The content type and the headers that were kept of a delivery; None where there is no such event."""
    row = (
        await connection.execute(select(events.c.content_type, events.c.headers).where(events.c.id == event_id))
    ).one_or_none()
    return None if row is None else Head(row.content_type, [(name, value) for name, value in row.headers])


async def discard_of(connection: AsyncConnection, event_id: UUID) -> Discarded | None:
    """None where nobody has discarded the event."""
    statement = select(events.c.discarded_at, events.c.discard_reason).where(events.c.id == event_id)
    row = (await connection.execute(statement)).one_or_none()
    return Discarded(row[0], row[1] or "") if row and row[0] else None


async def body_of(connection: AsyncConnection, event_id: UUID) -> KeptBody | None:
    """Where the body is, still sealed; None where there is no such event."""
    row = (await connection.execute(select(events.c.body, events.c.blob).where(events.c.id == event_id))).one_or_none()
    return None if row is None else KeptBody(row.body, row.blob)


def event_from(*columns: Any) -> Event:
    """The event of a row of ``COLUMNS``."""
    *plain, digest, size, types, reason, detail = columns
    values: tuple[Any, ...] = (*plain, digest.hex(), size, types, error_of(reason, detail))
    return Event(*values)


def _fetch(row: Any, url_of: UrlOf) -> Fetch:
    return Fetch(
        id=row.id,
        method="GET",
        url=url_of(row.provider, row.account, row.path),
        state=row.state,
        attempts=row.attempts,
        status=row.status,
        next_attempt_at=row.due_at if row.state in {"pending", "waiting"} else None,
        error=error_of(row.error_reason, row.error_detail),
    )
