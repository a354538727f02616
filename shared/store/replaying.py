"""Replays events: they are planned again from their kept bodies, as if they had just come in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from uuid import UUID

from shared.store import replays
from shared.store.pacing import STEADY, Pace
from shared.store.selecting import BEGINNING, Selection, locked, steps
from shared.store.text import storable


if TYPE_CHECKING:
    from asyncpg import Record

    from shared.store.postgres import Connection

Outcome = Literal["replayed", "hurried", "being-processed", "quarantined", "body-removed"]

EXPLANATIONS: Final[dict[Outcome, str]] = {
    "replayed": "is planned again from its kept body",
    "hurried": "is waiting: its waiting calls are made now, with all their attempts before them again",
    "being-processed": "is being worked on at this moment: left alone, try again when it has finished",
    "quarantined": "is in quarantine, since nobody proved to have sent it: it can be released, not replayed",
    "body-removed": "has a body that is not kept any more: retention removed it, so there is nothing to plan from",
}
DONE: Final[frozenset[Outcome]] = frozenset({"replayed", "hurried"})


class Replay(NamedTuple):
    """What happened to one event, or would."""

    id: UUID
    provider: str
    account: str
    state: str
    """The state that it had."""
    outcome: Outcome


_TO_RECEIVED = """
    UPDATE events
    SET state = 'received', claimed_by = NULL, token = NULL, finished_at = NULL, error_reason = NULL,
        error_detail = NULL, duplicate_of = NULL, queue_at = now(), due_at = NULL, attempts = 0,
        suspect = false, deaths = 0, background = true, discarded_at = NULL, discard_reason = NULL
    WHERE id = ANY($1)
"""
# A call that is still open serves the new plan too; finished ones are let go, so that the plan decides anew.
_LET_GO = """
    DELETE FROM event_fetches USING fetches
    WHERE event_fetches.fetch_id = fetches.id AND event_fetches.event_id = ANY($1)
      AND fetches.state IN ('done', 'failed')
"""
# A worker locks a call before its events, this locks them the other way round: what it holds is under way anyhow.
_HURRY = """
    UPDATE fetches SET due_at = now(), queue_at = now(), attempts = 0, refusals = 0, suspect = false, deaths = 0
    WHERE id IN (
        SELECT id FROM fetches
        WHERE state IN ('pending', 'waiting')
          AND id IN (SELECT fetch_id FROM event_fetches WHERE event_id = ANY($1))
        FOR UPDATE SKIP LOCKED
    )
"""
_NOTE = "INSERT INTO timeline (event_id, step, detail) SELECT id, 'replayed', $2 FROM unnest($1::uuid[]) AS id"


async def replay(
    connection: "Connection",
    selection: Selection,
    *,
    note: str,
    after: UUID | None = None,
    replay_id: int | None = None,
    dry_run: bool = False,
    pace: Pace = STEADY,
) -> AsyncIterator[Sequence[Replay]]:
    """Replay what is selected behind ``after``, oldest first, and say what became of each; a batch is one transaction.

    ``note`` goes into each event's timeline: why, and who. ``replay_id`` is the row that keeps the place. The pause
    between batches lets live traffic through.
    """
    async for step in steps(connection, selection, after or BEGINNING, pace.batch):
        async with connection.transaction():
            rows = await locked(connection, selection, step.ids, lock=not dry_run)
            batch = [Replay(row["id"], row["provider"], row["account"], row["state"], _outcome(row)) for row in rows]
            if not dry_run:
                await _apply(connection, batch, note)
            if replay_id is not None:
                outcomes = Counter[str](event.outcome for event in batch)
                await replays.move(connection, replay_id, str(step.place), outcomes)
        if batch:
            yield batch
            if not dry_run:
                await asyncio.sleep(pace.pause_seconds)


def _outcome(row: "Record") -> Outcome:
    state: str = row["state"]
    if state == "quarantined":
        return "quarantined"
    if state == "waiting":
        return "hurried"
    if state == "processing" or row["claimed_by"] is not None:
        return "being-processed"
    if row["without_body"]:
        return "body-removed"
    return "replayed"


async def _apply(connection: "Connection", batch: Sequence[Replay], note: str) -> None:
    again = [event.id for event in batch if event.outcome == "replayed"]
    hurried = [event.id for event in batch if event.outcome == "hurried"]
    if again:
        await connection.execute(_LET_GO, again)
        await connection.execute(_TO_RECEIVED, again)
    if hurried:
        await connection.execute(_HURRY, hurried)
    if again or hurried:
        await connection.execute(_NOTE, [*again, *hurried], storable(note))
