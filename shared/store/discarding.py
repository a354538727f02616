"""Discards dead letters: events that are parked or failed and that nobody wants any more leave the lists.

Nothing is deleted, and the state stays as it was: a discarded event has a time and a reason. A replay by its id, or the
next delivery, takes it up again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from uuid import UUID

from shared.store import timeline
from shared.store.pacing import STEADY, Pace
from shared.store.selecting import BEGINNING, Selection, locked, steps
from shared.store.text import storable


if TYPE_CHECKING:
    from asyncpg import Record

    from shared.store.postgres import Connection

Outcome = Literal["discarded", "discarded-before", "not-dead"]

EXPLANATIONS: Final[dict[Outcome, str]] = {
    "discarded": "is discarded: no list shows it unless it is asked for",
    "discarded-before": "was discarded before: left as it was",
    "not-dead": "is neither parked nor failed: left alone",
}
DONE: Final[frozenset[Outcome]] = frozenset({"discarded", "discarded-before"})
DEAD: Final = frozenset({"parked", "failed"})


class Discard(NamedTuple):
    """What happened to one event, or would."""

    id: UUID
    provider: str
    account: str
    state: str
    outcome: Outcome


async def discard(
    connection: "Connection",
    selection: Selection,
    *,
    reason: str,
    who: str,
    dry_run: bool = False,
    pace: Pace = STEADY,
) -> AsyncIterator[Sequence[Discard]]:
    """Discard what is selected, oldest first; a batch is one transaction. Broken off, the same again goes on."""
    async for step in steps(connection, selection, BEGINNING, pace.batch):
        async with connection.transaction():
            rows = await locked(connection, selection, step.ids, lock=not dry_run)
            batch = [Discard(row["id"], row["provider"], row["account"], row["state"], _outcome(row)) for row in rows]
            gone = [event.id for event in batch if event.outcome == "discarded"]
            if gone and not dry_run:
                await connection.execute(
                    "UPDATE events SET discarded_at = now(), discard_reason = $2 WHERE id = ANY($1)",
                    gone,
                    storable(reason),
                )
                await timeline.write(connection, [(event, "discarded", f"{reason} (by {who})") for event in gone])
        if batch:
            yield batch
            if not dry_run:
                await asyncio.sleep(pace.pause_seconds)


def _outcome(row: "Record") -> Outcome:
    if row["discarded_at"] is not None:
        return "discarded-before"
    return "discarded" if row["state"] in DEAD else "not-dead"
