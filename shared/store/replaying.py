"""Replays events: they are planned again from their kept bodies, as if they had just come in."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from uuid import UUID

from shared.errors import PenstockError


if TYPE_CHECKING:
    from shared.store.postgres import Connection

Outcome = Literal["replayed", "hurried", "being-processed", "quarantined"]

EXPLANATIONS: Final[dict[Outcome, str]] = {
    "replayed": "is planned again from its kept body",
    "hurried": "is waiting: its waiting calls are made now, with all their attempts before them again",
    "being-processed": "is being worked on at this moment: left alone, try again when it has finished",
    "quarantined": "is in quarantine, since nobody proved to have sent it: it can be released, not replayed",
}
DONE: Final[frozenset[Outcome]] = frozenset({"replayed", "hurried"})

BATCH = 500
PAUSE_SECONDS = 0.1


class EventsMissing(PenstockError):
    """An id was named that no event has; nothing was replayed."""


class Selection(NamedTuple):
    """Which events: those with these ids, or those that the filters let through (None means any)."""

    ids: Sequence[UUID] = ()
    provider: str | None = None
    state: str | None = None
    since: datetime | None = None


class Replay(NamedTuple):
    """What happened to one event, or would."""

    id: UUID
    provider: str
    account: str
    state: str
    """The state that it had."""
    outcome: Outcome


class _Cursor(NamedTuple):
    """Where the next batch begins, and the moment after which events are not taken any more."""

    after: UUID
    until: datetime


# Newer events than the start are left out, so a replay ends however fast new ones come in and fail.
_SELECTED = """
    FROM events
    WHERE id > $1
      AND (id = ANY($3::uuid[]) OR ($3::uuid[] IS NULL AND received_at <= $2))
      AND ($4::text IS NULL OR provider = $4)
      AND ($5::text IS NULL OR state = $5)
      AND ($6::timestamptz IS NULL OR received_at >= $6)
"""
_BATCH = f"SELECT id, provider, account, state, claimed_by {_SELECTED} ORDER BY id LIMIT $7"
_COUNT = f"SELECT count(*) {_SELECTED}"
_MISSING = "SELECT id FROM unnest($1::uuid[]) AS id WHERE NOT EXISTS (SELECT FROM events WHERE events.id = id.id)"

_TO_RECEIVED = """
    UPDATE events
    SET state = 'received', claimed_by = NULL, token = NULL, finished_at = NULL, error_reason = NULL,
        error_detail = NULL, duplicate_of = NULL, queue_at = now(), suspect = false, deaths = 0,
        background = true
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
    UPDATE fetches SET due_at = now(), queue_at = now(), attempts = 0, suspect = false, deaths = 0
    WHERE id IN (
        SELECT id FROM fetches
        WHERE state IN ('pending', 'waiting')
          AND id IN (SELECT fetch_id FROM event_fetches WHERE event_id = ANY($1))
        FOR UPDATE SKIP LOCKED
    )
"""
_NOTE = "INSERT INTO timeline (event_id, step, detail) SELECT id, 'replayed', $2 FROM unnest($1::uuid[]) AS id"


async def count(connection: "Connection", selection: Selection) -> int:
    """How many events are selected at this moment. Raises EventsMissing."""
    if missing := await connection.fetch(_MISSING, list(selection.ids)):
        names = ", ".join(str(row["id"]) for row in missing)
        raise EventsMissing(f"no event has the id {names}; nothing was replayed")
    found: int = await connection.fetchval(_COUNT, *_arguments(await _start(connection), selection))
    return found


async def replay(
    connection: "Connection",
    selection: Selection,
    *,
    note: str,
    dry_run: bool = False,
    pause_seconds: float = PAUSE_SECONDS,
) -> AsyncIterator[Sequence[Replay]]:
    """Replay what is selected, oldest first, and say what became of each; a batch is one transaction.

    ``note`` goes into each event's timeline: why, and who. The pause between batches lets live traffic through.
    """
    cursor = await _start(connection)
    while True:
        async with connection.transaction():
            lock = "" if dry_run else " FOR UPDATE"
            rows = await connection.fetch(_BATCH + lock, *_arguments(cursor, selection), BATCH)
            batch = [
                Replay(
                    row["id"], row["provider"], row["account"], row["state"], _outcome(row["state"], row["claimed_by"])
                )
                for row in rows
            ]
            if not dry_run:
                await _apply(connection, batch, note)
        if batch:
            yield batch
        if len(batch) < BATCH:
            return
        cursor = cursor._replace(after=batch[-1].id)
        await asyncio.sleep(0 if dry_run else pause_seconds)


def _outcome(state: str, claimed_by: UUID | None) -> Outcome:
    if state == "quarantined":
        return "quarantined"
    if state == "waiting":
        return "hurried"
    if state == "processing" or claimed_by is not None:
        return "being-processed"
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
        await connection.execute(_NOTE, [*again, *hurried], note)


async def _start(connection: "Connection") -> _Cursor:
    return _Cursor(UUID(int=0), await connection.fetchval("SELECT now()"))


def _arguments(cursor: _Cursor, selection: Selection) -> tuple[object, ...]:
    return (
        cursor.after,
        cursor.until,
        list(selection.ids) or None,
        selection.provider,
        selection.state,
        selection.since,
    )
