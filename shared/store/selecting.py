"""Which events an operator means, and going through them in bounded steps, however many are stored.

A step looks at the next ``WINDOW`` rows of the index that fits best, in the order of ids, and no further: it costs the
same whether all of them are meant or none.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from shared.errors import PenstockError
from shared.store.conditions import Conditions
from shared.store.lifecycle import EVENT_STATES


if TYPE_CHECKING:
    import asyncpg

    from shared.store.postgres import Connection

WINDOW = 1000

CLOCKS_APART: Final = timedelta(days=1)
"""An id holds the moment of the ingress host that made it, whose clock may be set to a wrong time zone."""

_WITHOUT_INDEX: Final = frozenset({"received", "processing"})
"""States that events leave soon; of every other there is an index by state and id."""


class EventsMissing(PenstockError):
    """An id was named that no event has; nothing was done."""


class Selection(NamedTuple):
    """Which events: those with these ids, or those that the filters let through (None means any).

    Discarded ones only by their ids. ``kind`` is an event type, ``error`` the reason of one that is parked or failed.
    """

    ids: Sequence[UUID] = ()
    provider: str | None = None
    account: str | None = None
    state: str | None = None
    kind: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Step(NamedTuple):
    """The events of one step that are meant, and where the next one begins."""

    ids: Sequence[UUID]
    place: UUID


BEGINNING: Final = UUID(int=0)


async def refuse_missing(connection: "Connection", ids: Sequence[UUID]) -> None:
    """Raise EventsMissing if one of these ids is that of no event."""
    if missing := await connection.fetch(
        "SELECT id FROM unnest($1::uuid[]) AS id WHERE NOT EXISTS (SELECT FROM events WHERE events.id = id.id)",
        list(ids),
    ):
        names = ", ".join(str(row["id"]) for row in missing)
        raise EventsMissing(f"no event has the id {names}; nothing was done")


async def steps(connection: "Connection", selection: Selection, place: UUID, most: int) -> AsyncIterator[Step]:
    """The steps behind a place, each with at most ``most`` events; the statement of each looks at few rows."""
    end = False
    while not end:
        query, arguments = step_statement(selection, place, most)
        row = await connection.fetchrow(query, *arguments)
        assert row is not None  # noqa: S101 - sub-selects alone always give a row
        full = len(row["ids"]) == most
        end = not full and row["number"] < WINDOW
        place = (row["ids"][-1] if full else row["last"]) or place
        yield Step(row["ids"], place)


def step_statement(selection: Selection, after: UUID, most: int) -> tuple[str, list[object]]:
    """The statement of a step and its arguments."""
    walk = Conditions()
    walk.add("id > {}", after)
    if selection.ids:
        walk.add("id = ANY({}::uuid[])", list(selection.ids))
    if selection.since:
        walk.add("id >= {}::uuid", _earliest_id(selection.since - CLOCKS_APART))
    if selection.until and selection.until + CLOCKS_APART < datetime.now(UTC):
        walk.add("id < {}::uuid", _earliest_id(selection.until + CLOCKS_APART))
    if selection.state in EVENT_STATES and selection.state not in _WITHOUT_INDEX:
        walk.add(f"state = '{selection.state}'")  # written out: the index is of some states only
    elif selection.provider and selection.account:
        walk.add("provider = {}", selection.provider)
        walk.add("account = {}", selection.account)
    meant = Conditions()
    meant.arguments = walk.arguments  # the numbers go on
    _filter(meant, selection)
    limits = walk.value(WINDOW), walk.value(most)
    return (
        f"""
        WITH looked_at AS MATERIALIZED (
            SELECT id, provider, account, state, event_types, error_reason, received_at, discarded_at
            FROM events WHERE {walk} ORDER BY id LIMIT {limits[0]}
        )
        SELECT array(SELECT id FROM looked_at WHERE {meant} ORDER BY id LIMIT {limits[1]}) AS ids,
               (SELECT id FROM looked_at ORDER BY id DESC LIMIT 1) AS last, (SELECT count(*) FROM looked_at) AS number
        """,  # noqa: S608 - put together from constants
        walk.arguments,
    )


async def locked(
    connection: "Connection", selection: Selection, ids: Sequence[UUID], *, lock: bool = True
) -> Sequence["asyncpg.Record"]:
    """Those of the ids that are still meant now that their rows are locked (or looked at again), by id."""
    if not ids:
        return []
    meant = Conditions()
    meant.add("id = ANY({}::uuid[])", list(ids))
    _filter(meant, selection)
    rows: Sequence[asyncpg.Record] = await connection.fetch(
        f"""
        SELECT id, provider, account, state, claimed_by, discarded_at, body IS NULL AND blob IS NULL AS without_body
        FROM events WHERE {meant} ORDER BY id
        """  # noqa: S608 - constants
        + (" FOR UPDATE" if lock else ""),
        *meant.arguments,
    )
    return rows


def _filter(meant: Conditions, selection: Selection) -> None:
    meant.add_if("provider = {}", selection.provider)
    meant.add_if("account = {}", selection.account)
    meant.add_if("state = {}", selection.state)
    meant.add_if("event_types @> ARRAY[{}::text]", selection.kind)
    meant.add_if("error_reason = {}", selection.error)
    meant.add_if("received_at >= {}", selection.since)
    if not selection.ids:
        meant.add_if("received_at <= {}", selection.until)
        meant.add("discarded_at IS NULL")


def _earliest_id(moment: datetime) -> UUID:
    """The first id of version 7 of a moment, and every earlier id before it."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80)
