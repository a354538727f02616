"""Sends stored changes again: a hand-over that is finished or waits is due now, under the id that it always had."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final, Literal, NamedTuple

from shared.store import replays
from shared.store.handovers import handlers
from shared.store.handovers.selecting import BEGINNING, Place, Selection, steps
from shared.store.pacing import STEADY, Pace
from shared.store.postgres import Connection


Outcome = Literal["replayed", "hurried", "due", "running", "change-removed"]

EXPLANATIONS: Final[dict[Outcome, str]] = {
    "replayed": "is handed over again, under the same id",
    "hurried": "was waiting: it is handed over now, with all its attempts before it again",
    "due": "is due already: it is handed over as soon as its handler and its record let it",
    "running": "is being handed over at this moment: left alone",
    "change-removed": "has a change that is not kept any more: it cannot be sent again",
}
DONE: Final[frozenset[Outcome]] = frozenset({"replayed", "hurried", "due"})

_OUTCOMES: Final[dict[str, Outcome]] = {
    "pending": "due",
    "waiting": "hurried",
    "running": "running",
    "done": "replayed",
    "parked": "replayed",
    "discarded": "replayed",
}


class Replay(NamedTuple):
    """What happened to one hand-over, or would."""

    id: int
    handler: str
    seq: int
    state: str
    """The state that it had."""
    outcome: Outcome


# What a worker holds is left to it: nobody waits for anybody. What changed its state since it was looked at is looked
# at again under the lock, so that two operators who replay the same send it once.
_LOCKED = """
    SELECT h.id, h.state FROM handovers h
    WHERE h.id = ANY($1::bigint[]) AND h.state <> 'running' AND ($2::text IS NULL OR h.state = $2)
    ORDER BY h.id FOR UPDATE SKIP LOCKED
"""
_LOOKED_AT = """
    SELECT h.id, h.handler, h.seq, h.state, EXISTS (SELECT FROM changes c WHERE c.id = h.change_id) AS kept
    FROM handovers h WHERE h.id = ANY($1::bigint[]) ORDER BY h.seq
"""
_DUE = """
    UPDATE handovers SET state = 'pending', attempts = 0, deaths = 0, due_at = now(), finished_at = NULL,
                         status = NULL, error_reason = NULL, error_detail = NULL, note = $2
    WHERE id = ANY($1::bigint[])
"""


async def replay(
    connection: Connection,
    selection: Selection,
    *,
    note: str,
    place: Place = BEGINNING,
    replay_id: int | None = None,
    dry_run: bool = False,
    pace: Pace = STEADY,
) -> AsyncIterator[Sequence[Replay]]:
    """Make due what is selected behind a place, in the feed's order; a batch is one transaction.

    Workers keep the order of each record: an earlier change that is due again goes before later ones that still wait.
    """
    async for step in steps(connection, selection, place, pace.batch):
        async with connection.transaction():
            batch = await _look(connection, selection, step.ids, lock=not dry_run)
            again = [handover.id for handover in batch if handover.outcome in {"replayed", "hurried"}]
            if again and not dry_run:
                await connection.execute(_DUE, again, f"replayed: {note}")
                await handlers.stir(connection)
            if replay_id is not None:
                outcomes = Counter[str](handover.outcome for handover in batch)
                await replays.move(connection, replay_id, step.place, outcomes)
        if batch:
            yield batch
            if not dry_run:
                await asyncio.sleep(pace.pause_seconds)


async def _look(connection: Connection, selection: Selection, ids: Sequence[int], *, lock: bool) -> Sequence[Replay]:
    if not ids:
        return []
    mine = {row["id"] for row in await connection.fetch(_LOCKED, list(ids), selection.state)} if lock else set(ids)
    found = []
    for row in await connection.fetch(_LOOKED_AT, list(ids)):
        if selection.state not in {None, row["state"]}:
            continue  # somebody else had it in the meantime
        outcome = _OUTCOMES[row["state"]]
        if outcome in {"replayed", "hurried"}:
            if row["id"] not in mine:
                outcome = "running"
            elif not row["kept"]:
                outcome = "change-removed"
        found.append(Replay(row["id"], row["handler"], row["seq"], row["state"], outcome))
    return found
