"""Which hand-overs an operator means, and going through them in bounded steps: handler by handler, in the feed's order.

Replayed and discarded in that order, the changes of a record keep theirs.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from shared.errors import PenstockError
from shared.store.conditions import Conditions
from shared.store.postgres import Connection
from shared.store.schema import HANDOVER_STATES


WINDOW = 500

LATE: Final = timedelta(hours=1)
"""A change gets its number after its transaction, so times and numbers differ in order; by no more than this."""

CHANGE_OF: Final = "LEFT JOIN LATERAL (SELECT * FROM changes WHERE id = h.change_id OFFSET 0) AS c ON true"
"""Looked up one by one: how few rows a step has is not known to Postgres, which else may read the whole feed."""


class HandoversMissing(PenstockError):
    """A hand-over, a change or a handler was named that is not there; nothing was done."""


class Selection(NamedTuple):
    """Which hand-overs: those with these ids or of these changes (by seq), let through by the filters (None means any).

    Discarded ones only by id, or where that state is asked for. ``since`` and ``until`` are about when the change
    happened, ``after`` is the seq behind which they begin, ``error`` is the reason of the last failure.
    """

    ids: Sequence[int] = ()
    changes: Sequence[int] = ()
    handler: str | None = None
    state: str | None = None
    provider: str | None = None
    kind: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int | None = None


class Place(NamedTuple):
    """Behind which hand-over to go on: a handler's name and a seq; the beginning unless given."""

    handler: str = ""
    seq: int = 0


BEGINNING = Place()


class Step(NamedTuple):
    """The hand-overs of one step that are meant, and where the next one begins."""

    ids: Sequence[int]
    place: Place


async def refuse_missing(connection: Connection, selection: Selection) -> Selection:
    """The selection with its changes as ids. Raises HandoversMissing for what is not there."""
    if selection.handler and not await connection.fetchval("SELECT 1 FROM handlers WHERE name = $1", selection.handler):
        raise HandoversMissing(
            f"there is no handler {selection.handler}; `penstock handlers list` names those that there are"
        )
    if selection.ids:
        rows = await connection.fetch(
            "SELECT id FROM unnest($1::bigint[]) AS id WHERE NOT EXISTS (SELECT FROM handovers h WHERE h.id = id.id)",
            list(selection.ids),
        )
        if rows:
            names = ", ".join(str(row["id"]) for row in rows)
            raise HandoversMissing(f"there is no hand-over {names}; nothing was done")
    if not selection.changes:
        return selection
    rows = await connection.fetch(
        """
        SELECT s.seq, h.id FROM unnest($1::bigint[]) AS s (seq)
        LEFT JOIN changes c ON c.seq = s.seq
        LEFT JOIN handovers h ON h.change_id = c.id AND ($2::text IS NULL OR h.handler = $2)
        """,
        list(selection.changes),
        selection.handler,
    )
    if missing := sorted({row["seq"] for row in rows if row["id"] is None}):
        names = ", ".join(map(str, missing))
        raise HandoversMissing(
            f"the change {names} was handed to nobody that is meant, which --handler with --missing does;"
            " nothing was done"
        )
    return selection._replace(ids=[row["id"] for row in rows], changes=())


async def steps(connection: Connection, selection: Selection, place: Place, most: int) -> AsyncIterator[Step]:
    """The steps behind a place, each with at most ``most`` hand-overs; the statement of each looks at few rows."""
    names = await connection.fetch(
        "SELECT name FROM handlers WHERE name >= $1 AND ($2::text IS NULL OR name = $2) ORDER BY name",
        place.handler,
        selection.handler,
    )
    bounds = await seq_bounds(connection, selection.since, selection.until)
    for name in [row["name"] for row in names]:
        after = place.seq if name == place.handler else 0
        while True:
            query, arguments = step_statement(selection, bounds, Place(name, after), most)
            row = await connection.fetchrow(query, *arguments)
            assert row is not None  # noqa: S101 - sub-selects alone always give a row
            full = len(row["ids"]) == most
            end = not full and row["number"] < WINDOW
            after = (row["last_meant"] if full else row["last"]) or after
            yield Step(row["ids"], Place(name, after))
            if end:
                break


def step_statement(
    selection: Selection, bounds: tuple[int, int], place: Place, most: int
) -> tuple[str, Sequence[object]]:
    """The statement of one step, and its arguments."""
    walk = Conditions()
    walk.add("h.handler = {}", place.handler)
    walk.add("h.seq > {}", place.seq)
    walk.add("h.seq BETWEEN {} AND {}", *bounds)
    walk.add_if("h.seq > {}", selection.after)
    meant = Conditions()
    meant.arguments = walk.arguments  # the numbers go on
    _filter(meant, selection)
    most_seen, most_meant = walk.value(WINDOW), walk.value(most)
    if selection.ids:
        walk.add("h.id = ANY({}::bigint[])", list(selection.ids))
        rows = f"SELECT h.* FROM handovers h WHERE {walk} ORDER BY h.seq LIMIT {most_seen}"  # noqa: S608 - constants
    else:
        others = [state for state in HANDOVER_STATES if state != "discarded"]
        states = walk.value([selection.state] if selection.state else others)
        # one walk along the index for each state, merged: Postgres sorts everything for "state IN" with an order
        rows = f"""
            SELECT h.* FROM unnest({states}::text[]) AS s (state) CROSS JOIN LATERAL (
                SELECT h.* FROM handovers h WHERE {walk} AND h.state = s.state ORDER BY h.seq LIMIT {most_seen}
            ) AS h ORDER BY h.seq LIMIT {most_seen}
        """  # noqa: S608 - the same
    return (
        f"""
        WITH looked_at AS MATERIALIZED ({rows}), meant AS MATERIALIZED (
            SELECT h.id, h.seq FROM looked_at h {CHANGE_OF} WHERE {meant} ORDER BY h.seq LIMIT {most_meant}
        )
        SELECT array(SELECT id FROM meant ORDER BY seq) AS ids, (SELECT max(seq) FROM meant) AS last_meant,
               (SELECT max(seq) FROM looked_at) AS last, (SELECT count(*) FROM looked_at) AS number
        """,  # noqa: S608 - the same
        walk.arguments,
    )


def _filter(meant: Conditions, selection: Selection) -> None:
    meant.add_if("c.provider = {}", selection.provider)
    meant.add_if("c.kind = {}", selection.kind)
    meant.add_if("h.error_reason = {}", selection.error)
    meant.add_if("h.state = {}", selection.state)
    meant.add_if("coalesce(c.at, h.created_at) >= {}", selection.since)
    if not selection.ids:
        meant.add_if("coalesce(c.at, h.created_at) <= {}", selection.until)


async def seq_bounds(connection: Connection, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The first and the last seq between which every change of this time is."""
    row = await connection.fetchrow(
        """
        SELECT now() AS now, greatest((SELECT coalesce(max(seq), 0) FROM changes),
                               (SELECT coalesce(max(cursor), 0) FROM handlers)) AS newest
        """
    )
    assert row is not None  # noqa: S101 - a SELECT without FROM always gives a row
    now, newest = row["now"], row["newest"]
    first = await _seq_at(connection, since - LATE, newest) if since else 0
    bounded = until is not None and until + LATE < now
    last = await _seq_at(connection, until + LATE, newest) + 1 if until and bounded else newest
    return first, last


async def _seq_at(connection: Connection, moment: datetime, newest: int) -> int:
    """About the last seq before a moment, by halving: the feed has no index by time."""
    low, high = 0, newest
    while low < high:
        middle = (low + high + 1) // 2
        at = await connection.fetchval("SELECT at FROM changes WHERE seq >= $1 ORDER BY seq LIMIT 1", middle)
        low, high = (middle, high) if at is not None and at < moment else (low, middle - 1)
    return low
