"""Discards hand-overs: an operator says that a handler does not get these changes, and why; their records go on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal, NamedTuple

from asyncpg import Record

from shared.store.handovers import handlers
from shared.store.handovers.selecting import BEGINNING, Selection, steps
from shared.store.pacing import STEADY, Pace
from shared.store.postgres import Connection
from shared.store.text import storable


Outcome = Literal["discarded", "discarded-before", "delivered", "running"]

EXPLANATIONS: Final[dict[Outcome, str]] = {
    "discarded": "is discarded: the next change of its record goes on",
    "discarded-before": "was discarded before: left as it was",
    "delivered": "was handed over: there is nothing to discard",
    "running": "is being handed over at this moment: left alone",
}
DONE: Final[frozenset[Outcome]] = frozenset({"discarded", "discarded-before"})

_OUTCOMES: Final[dict[str, Outcome]] = {
    "pending": "discarded",
    "waiting": "discarded",
    "parked": "discarded",
    "running": "running",
    "done": "delivered",
    "discarded": "discarded-before",
}


class Discard(NamedTuple):
    """What happened to one hand-over, or would."""

    id: int
    handler: str
    seq: int
    state: str
    """The state that it had."""
    outcome: Outcome


# The reason of the last failure stays beside the operator's.
_DISCARD = """
    WITH held AS (
        SELECT id, state FROM handovers
        WHERE id = ANY($1::bigint[]) AND state IN ('pending', 'waiting', 'parked')
          AND ($3::text IS NULL OR state = $3)
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE handovers h SET state = 'discarded', finished_at = now(), note = $2 FROM held WHERE h.id = held.id
    RETURNING h.id, h.handler, h.seq, held.state
"""
_LOOKED_AT = "SELECT id, handler, seq, state FROM handovers WHERE id = ANY($1::bigint[])"


async def discard(
    connection: Connection, selection: Selection, *, note: str, dry_run: bool = False, pace: Pace = STEADY
) -> AsyncIterator[Sequence[Discard]]:
    """Discard what is selected; a batch is one transaction. Broken off, the same again goes on."""
    async for step in steps(connection, selection, BEGINNING, pace.batch):
        if not step.ids:
            continue
        async with connection.transaction():
            ids = list(step.ids)
            looked_at = {row["id"]: row for row in await connection.fetch(_LOOKED_AT, ids)}
            gone: dict[int, Record] = {}
            if not dry_run:
                rows = await connection.fetch(_DISCARD, ids, storable(f"discarded: {note}"), selection.state)
                gone = {row["id"]: row for row in rows}
                await handlers.stir(connection)
        batch = [_told(gone.get(each), looked_at[each], dry_run=dry_run) for each in ids if each in looked_at]
        yield batch
        if not dry_run:
            await asyncio.sleep(pace.pause_seconds)


def _told(gone: Record | None, looked_at: Record, *, dry_run: bool) -> Discard:
    row = gone or looked_at
    outcome: Outcome = "discarded" if gone else _OUTCOMES[row["state"]]
    if outcome == "discarded" and not (gone or dry_run):
        outcome = "running"  # somebody else had it in the meantime
    return Discard(row["id"], row["handler"], row["seq"], row["state"], outcome)
