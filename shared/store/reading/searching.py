"""Finding events among millions: each filter goes by an index, and pages go on where the last one ended.

Ids are UUIDs of version 7, made when a delivery came in, so that they order by time and a time is a bound of ids.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, column, func, or_, select, text, true, union, values
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.expression import literal_column

from shared.store.reading.events import COLUMNS, event_from
from shared.store.reading.shapes import Event
from shared.store.schema import CALLED_ENTITY, ERROR_WORDS, FIRST_TYPE, SECOND_TYPE, changes, event_fetches, events
from shared.store.schema import fetches as calls


class Search(NamedTuple):
    """Which events; None means any.

    ``since`` and ``until`` bound the time of receipt; ``entity`` is an id as providers name things, ``words`` are
    looked for in an event's error; ``before`` is the id of the last event of the page before. Discarded events are
    a list of their own: no other shows them.
    """

    provider: str | None = None
    account: str | None = None
    state: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    entity: str | None = None
    words: str | None = None
    before: UUID | None = None
    discarded: bool = False


class Group(NamedTuple):
    """What waits for a person for one reason: failed and parked events that nobody has discarded."""

    provider: str
    reason: str


OF_ENTITY: Final = 1000
"""So many of the newest calls about an entity, and of its changes, are looked at."""

NEWEST_ERRORS: Final = 500
"""So many events with an error are looked at before the index of words is asked."""

_IN_INDEX_BY_STATE: Final = frozenset({"waiting", "parked", "failed", "quarantined", "duplicate"})
_TYPE_LENGTH: Final = 100
_FIRST: Final[ColumnElement[str]] = literal_column(FIRST_TYPE)
_SECOND: Final[ColumnElement[str]] = literal_column(SECOND_TYPE)

# Every (provider, account) that ever had an event: a step into the index for each, however many events there are.
_ACCOUNTS: Final = text("""
    WITH RECURSIVE known AS (
        (SELECT provider, account FROM events ORDER BY provider, account LIMIT 1)
        UNION ALL
        SELECT next.provider, next.account FROM known, LATERAL (
            SELECT provider, account FROM events WHERE (provider, account) > (known.provider, known.account)
            ORDER BY provider, account LIMIT 1
        ) AS next
    )
    SELECT provider, account FROM known
""")


_BITMAPS_ONLY: Final = text("SET LOCAL enable_indexscan = off")
_ANY_SCAN: Final = text("SET LOCAL enable_indexscan = on")


async def search_events(connection: AsyncConnection, search: Search, *, limit: int) -> Sequence[Event]:
    """At most ``limit`` events, newest first."""
    found = select(*COLUMNS).order_by(events.c.id.desc()).limit(limit)
    if search.entity:
        ids = list((await connection.execute(_of_entity(search.entity))).scalars())
        found = found.where(events.c.id.in_(ids), _matching(search))
    elif search.words:
        others = _matching(search._replace(words=None))
        ids = list((await connection.execute(_among_newest_errors(search))).scalars())
        newest = [*await connection.execute(found.where(events.c.id.in_(ids), others))]
        if len(newest) == limit:
            return [event_from(*row) for row in newest]
        found = found.where(events.c.id.in_(_with_words(search, limit)))
        # The planner has no statistics for the words, since their index is of some rows only, takes one event in 200 to
        # have them, and would rather read every event with an error: a bitmap is how the index of words is read.
        await connection.execute(_BITMAPS_ONLY)
        rows = [*await connection.execute(found)]
        await connection.execute(_ANY_SCAN)
        return [event_from(*row) for row in rows]
    elif search.type:
        found = found.where(events.c.id.in_(_of_type(search, limit)))
    elif search.discarded or search.state in _IN_INDEX_BY_STATE or not (search.provider or search.account):
        found = found.where(_matching(search))
    else:
        accounts = [
            (provider, account)
            for provider, account in await connection.execute(_ACCOUNTS)
            if search.provider in {None, provider} and search.account in {None, account}
        ]
        if not accounts:
            return []
        found = found.where(events.c.id.in_(_of_accounts(accounts, search, limit)))
    return [event_from(*row) for row in await connection.execute(found)]


async def search_group(connection: AsyncConnection, group: Group, *, limit: int) -> Sequence[Event]:
    """At most ``limit`` of a group's events, those received last."""
    statement = select(*COLUMNS).where(*_in_group(group)).order_by(events.c.received_at.desc()).limit(limit)
    return [event_from(*row) for row in await connection.execute(statement)]


async def states_of_group(connection: AsyncConnection, group: Group) -> Sequence[str]:
    """The states in which the group has events: one of them, or both."""
    found = []
    for state in ("failed", "parked"):
        statement = select(events.c.id).where(*_in_group(group), events.c.state == state).limit(1)
        if (await connection.execute(statement)).first():
            found.append(state)
    return found


def _in_group(group: Group) -> Sequence[ColumnElement[bool]]:
    return (
        events.c.state.in_(("parked", "failed")),
        events.c.discarded_at.is_(None),
        events.c.provider == group.provider,
        events.c.error_reason == group.reason,
    )


def id_at(at: datetime) -> UUID:
    """The least id that an event of this moment can have."""
    milliseconds = max(0, int(at.astimezone(UTC).timestamp() * 1000))
    return UUID(int=min(milliseconds, (1 << 48) - 1) << 80)


def _matching(search: Search, *, but_type: bool = False) -> ColumnElement[bool]:
    """Every filter but that by entity, as one condition."""
    discarded = events.c.discarded_at
    given: list[ColumnElement[bool]] = [discarded.is_not(None) if search.discarded else discarded.is_(None)]
    if search.state is None:
        # strangers' deliveries have a page of their own
        given.append(events.c.state != "quarantined")
    for found, value in (
        (events.c.provider, search.provider),
        (events.c.account, search.account),
        (events.c.state, search.state),
    ):
        if value is not None:
            given.append(found == value)
    if search.type and not but_type:
        cut = search.type[:_TYPE_LENGTH]
        given.append(or_(_FIRST.in_([cut]), _SECOND.in_([cut])))
    if search.words:
        given += [events.c.error_reason.is_not(None), _has_words(search.words)]
    return and_(*given, *_bounds(search))


def _bounds(search: Search) -> Sequence[ColumnElement[bool]]:
    """Between which ids."""
    given = []
    if search.since is not None:
        given.append(events.c.id >= id_at(search.since))
    if search.until is not None:
        given.append(events.c.id < id_at(search.until))
    if search.before is not None:
        given.append(events.c.id < search.before)
    return given


def _has_words(words: str) -> ColumnElement[bool]:
    return literal_column(ERROR_WORDS).op("@@")(func.websearch_to_tsquery("simple", words))


def _among_newest_errors(search: Search) -> Select[Any]:
    """The ids of those with the words among the newest errors: usual words are all found there, without their index."""
    newest = (
        select(events.c.id, _has_words(search.words or "").label("fits"))
        .where(events.c.error_reason.is_not(None), *_bounds(search))
        .order_by(events.c.id.desc())
        .limit(NEWEST_ERRORS)
        .cte("newest")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return select(newest.c.id).where(newest.c.fits)


def _with_words(search: Search, limit: int) -> Select[Any]:
    """The newest ids of all that have the words and match the rest, by the index of words: the words are not usual."""
    having = (
        select(events.c.id)
        .where(_matching(search))
        .order_by(events.c.id.desc())
        .limit(limit)
        .cte("having_words")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return select(having.c.id)


def _of_accounts(accounts: Sequence[tuple[str, str]], search: Search, limit: int) -> Select[Any]:
    """The newest ids of each account: the index holds them in order, account by account."""
    named = values(column("provider", Text), column("account", Text), name="named").data(accounts)
    newest = (
        select(events.c.id)
        .where(events.c.provider == named.c.provider, events.c.account == named.c.account, _matching(search))
        .order_by(events.c.id.desc())
        .limit(limit)
        .lateral("newest")
    )
    return select(newest.c.id).select_from(named.join(newest, true()))


def _of_type(search: Search, limit: int) -> Any:
    """The newest ids whose first type it is, and those whose second."""
    cut = (search.type or "")[:_TYPE_LENGTH]
    first, second = (
        select(events.c.id)
        .where(condition, _matching(search, but_type=True))
        .order_by(events.c.id.desc())
        .limit(limit)
        .subquery()
        for condition in (
            and_(_FIRST.in_([cut]), text("event_types <> '{}'")),
            and_(_SECOND.in_([cut]), text("event_types[2] IS NOT NULL")),
        )
    )
    return union(select(first.c.id), select(second.c.id))


def _of_entity(entity: str) -> Any:
    """The ids of events that asked for calls about it, or changed records of that id."""
    called = (
        select(calls.c.id)
        .where(literal_column(CALLED_ENTITY) == entity[:_TYPE_LENGTH])
        .order_by(calls.c.id.desc())
        .limit(OF_ENTITY)
        .subquery()
    )
    changed = (
        select(changes.c.event_id)
        .where(changes.c.external_id == entity, changes.c.event_id.is_not(None), changes.c.seq.is_not(None))
        .order_by(changes.c.id.desc())
        .limit(OF_ENTITY)
        .subquery()
    )
    return union(
        select(event_fetches.c.event_id).join(called, called.c.id == event_fetches.c.fetch_id),
        select(changed.c.event_id),
    )
