"""Hands over what a handler never got: changes from before it began, or of kinds that it wants only now.

Each change becomes a hand-over as it would have in its time: under its own id, in the order of its record. What had
one before, whatever became of it, is passed over.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from shared.store import replays
from shared.store.conditions import Conditions
from shared.store.handovers import handlers
from shared.store.handovers.handing_over import LANE, Subscription
from shared.store.handovers.selecting import Selection, seq_bounds
from shared.store.pacing import STEADY, Pace
from shared.store.postgres import Connection


WINDOW = 500
"""So many changes are looked at in one step, meant or not."""

Outcome = Literal["made"]

EXPLANATIONS: Final[dict[Outcome, str]] = {"made": "was never handed over to it, and is now, under its own id"}


class Backfilled(NamedTuple):
    """A change that is handed over for the first time, or would be."""

    handler: str
    seq: int
    op: str
    kind: str
    external_id: str
    outcome: Outcome = "made"


async def backfill(
    connection: Connection,
    subscription: Subscription,
    selection: Selection,
    *,
    note: str,
    place: int = 0,
    replay_id: int | None = None,
    dry_run: bool = False,
    pace: Pace = STEADY,
) -> AsyncIterator[Sequence[Backfilled]]:
    """Make hand-overs of what the handler wants, is selected, and never had one; a batch is one transaction.

    Behind ``place``, in the feed's order, up to the handler's cursor: what is behind that comes by itself. Of the
    selection count changes, provider, kind and time. Broken off, the same again makes only what is missing then.
    """
    cursor: int = await connection.fetchval("SELECT cursor FROM handlers WHERE name = $1", subscription.name)
    first, last = await seq_bounds(connection, selection.since, selection.until)
    place, last = max(place, first - 1, selection.after or 0), min(last, cursor)
    end = False
    while not end:
        async with connection.transaction():
            rows = await _look(connection, subscription, selection, place, last)
            missing = [row for row in rows if row["missing"]]
            end = len(rows) < WINDOW and len(missing) <= pace.batch
            if len(missing) > pace.batch:
                place = missing[pace.batch - 1]["seq"]
            elif rows:
                place = rows[-1]["seq"]
            batch = [
                Backfilled(subscription.name, row["seq"], row["op"], row["kind"], row["external_id"])
                for row in missing[: pace.batch]
            ]
            if batch and not dry_run:
                made = await _make(connection, subscription, [change.seq for change in batch], note)
                batch = [change for change in batch if change.seq in made]
                await handlers.stir(connection)
            if replay_id is not None:
                outcomes = Counter[str](change.outcome for change in batch)
                await replays.move(connection, replay_id, [subscription.name, place], outcomes)
        if batch:
            yield batch
            if not dry_run:
                await asyncio.sleep(pace.pause_seconds)


async def _look(
    connection: Connection, subscription: Subscription, selection: Selection, place: int, last: int
) -> Sequence[Any]:
    """The next rows of the feed, and which of them are missing."""
    walk = Conditions()
    walk.add("c.seq > {} AND c.seq <= {}", place, last)
    if selection.changes:
        walk.add("c.seq = ANY({}::bigint[])", list(selection.changes))
    meant = Conditions()
    meant.arguments = walk.arguments  # the numbers go on
    if subscription.kinds:
        meant.add("c.kind = ANY({}::text[])", list(subscription.kinds))
    meant.add("c.op = ANY({}::text[])", list(subscription.ops))
    meant.add_if("c.provider = {}", selection.provider)
    meant.add_if("c.kind = {}", selection.kind)
    meant.add_if("c.at >= {}", selection.since)
    meant.add_if("c.at <= {}", selection.until)
    # a sub-select with a limit: without statistics Postgres joins by the handler alone and compares all rows with all
    meant.add(
        "(SELECT true FROM handovers h WHERE h.handler = {} AND h.change_id = c.id LIMIT 1) IS NULL", subscription.name
    )
    rows: Sequence[Any] = await connection.fetch(
        f"""
        WITH looked_at AS MATERIALIZED (
            SELECT id, seq, op, provider, kind, external_id, at FROM changes c
            WHERE {walk} ORDER BY c.seq LIMIT {walk.value(WINDOW)}
        )
        SELECT c.seq, c.op, c.kind, c.external_id, {meant} AS missing FROM looked_at c ORDER BY c.seq
        """,  # noqa: S608 - put together from constants
        *walk.arguments,
    )
    return rows


async def _make(connection: Connection, subscription: Subscription, seqs: Sequence[int], note: str) -> set[int]:
    """The hand-overs of these changes; those that somebody else made meanwhile, or whose change has gone, are not."""
    rows = await connection.fetch(
        f"""
        INSERT INTO handovers (handler, change_id, seq, lane, note)
        SELECT $1, id, seq, {LANE}, $3 FROM changes WHERE seq = ANY($2::bigint[]) ORDER BY seq
        ON CONFLICT DO NOTHING RETURNING seq
        """,  # noqa: S608 - put together from constants
        subscription.name,
        list(seqs),
        f"replayed: {note}",
    )
    return {row["seq"] for row in rows}
