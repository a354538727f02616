"""Takes back what a lapsed lease brought upon the claims of a process that lives: suspicion, deaths, and parking."""

from collections.abc import Sequence
from uuid import UUID

from shared.store import timeline
from shared.store.postgres import Connection


KEPT = "1 hour"
"""A process that has been silent for so long is not waited for."""
FORGOTTEN_AT_ONCE = 500

_AGAIN = "it is no poison: its worker process was slow, and lives"


async def acquit(connection: Connection, worker: UUID) -> None:
    """Take back whatever the lapse of this process's lease brought upon what it held. To be called in a transaction."""
    rows = await connection.fetch("DELETE FROM lapses WHERE worker = $1 RETURNING event_id, fetch_id, counted", worker)
    events = {row["event_id"]: row["counted"] for row in rows if row["event_id"] is not None}
    fetches = {row["fetch_id"]: row["counted"] for row in rows if row["fetch_id"] is not None}
    # As a worker locks them: calls before their events.
    if fetches:
        await _fetches(connection, fetches)
    if events:
        await _events(connection, events)


async def forget(connection: Connection, workers: Sequence[UUID]) -> None:
    """These are known to be dead by now: it stays as it is."""
    await connection.execute("DELETE FROM lapses WHERE worker = ANY($1)", workers)


async def forget_old(connection: Connection) -> None:
    """Forget the lapses of processes that never came back, some at a time."""
    await connection.execute(
        """
        DELETE FROM lapses WHERE id IN (
            SELECT id FROM lapses WHERE at < now() - $1::text::interval ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        """,
        KEPT,
        FORGOTTEN_AT_ONCE,
    )


async def _events(connection: Connection, events: dict[UUID, bool]) -> None:
    rows = await connection.fetch(
        """
        WITH blamed AS (
            SELECT e.id, b.counted, e.state = 'parked' AND e.error_reason = 'poison' AND b.counted AS parked
            FROM events e JOIN unnest($1::uuid[], $2::boolean[]) AS b (id, counted) ON b.id = e.id
            ORDER BY e.id FOR UPDATE OF e
        )
        UPDATE events e SET
            suspect = e.suspect AND blamed.counted,
            deaths = greatest(0, e.deaths - CASE WHEN blamed.counted THEN 1 ELSE 0 END),
            state = CASE WHEN blamed.parked THEN 'received' ELSE e.state END,
            finished_at = CASE WHEN blamed.parked THEN NULL ELSE e.finished_at END,
            error_reason = CASE WHEN blamed.parked THEN NULL ELSE e.error_reason END,
            error_detail = CASE WHEN blamed.parked THEN NULL ELSE e.error_detail END,
            queue_at = CASE WHEN blamed.parked THEN now() ELSE e.queue_at END
        FROM blamed WHERE e.id = blamed.id RETURNING e.id, blamed.parked
        """,
        list(events),
        list(events.values()),
    )
    await timeline.write(connection, [(row["id"], "replayed", _AGAIN) for row in rows if row["parked"]])


async def _fetches(connection: Connection, fetches: dict[int, bool]) -> None:
    """A call that was given up is let go, and its events are planned again, as a replay does it."""
    given_up = await connection.fetch(
        """
        WITH blamed AS (
            SELECT f.id, f.resource, b.counted, f.state = 'failed' AND f.error_reason = 'poison' AND b.counted AS failed
            FROM fetches f JOIN unnest($1::bigint[], $2::boolean[]) AS b (id, counted) ON b.id = f.id
            ORDER BY f.id FOR UPDATE OF f
        ), acquitted AS (
            UPDATE fetches f SET
                suspect = f.suspect AND blamed.counted,
                deaths = greatest(0, f.deaths - CASE WHEN blamed.counted THEN 1 ELSE 0 END)
            FROM blamed WHERE f.id = blamed.id
        )
        SELECT id, resource FROM blamed WHERE failed
        """,
        list(fetches),
        list(fetches.values()),
    )
    if not given_up:
        return
    # What was asked for anew meanwhile was put off on its account.
    await connection.execute(
        "UPDATE fetches SET due_at = now(), queue_at = now() WHERE resource = ANY($1) AND state = 'pending'",
        [row["resource"] for row in given_up],
    )
    await _plan_again(connection, [row["id"] for row in given_up])


async def _plan_again(connection: Connection, given_up: Sequence[int]) -> None:
    again = await connection.fetch(
        """
        SELECT id FROM events
        WHERE id IN (SELECT event_id FROM event_fetches WHERE fetch_id = ANY($1)) AND state IN ('parked', 'failed')
        ORDER BY id FOR UPDATE
        """,
        given_up,
    )
    ids = [row["id"] for row in again]
    await connection.execute(
        """
        DELETE FROM event_fetches USING fetches
        WHERE event_fetches.fetch_id = fetches.id AND event_fetches.event_id = ANY($1)
          AND fetches.state IN ('done', 'failed')
        """,
        ids,
    )
    await connection.execute(
        "DELETE FROM fetches f WHERE id = ANY($1) AND NOT EXISTS (SELECT FROM event_fetches WHERE fetch_id = f.id)",
        given_up,
    )
    await connection.execute(
        """
        UPDATE events SET state = 'received', finished_at = NULL, error_reason = NULL, error_detail = NULL,
            queue_at = now()
        WHERE id = ANY($1)
        """,
        ids,
    )
    await timeline.write(connection, [(event, "replayed", _AGAIN) for event in ids])
