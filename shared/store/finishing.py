"""The state of an event follows from the states of its fetches; this is the one place that says how."""

from collections.abc import Sequence
from uuid import UUID

from shared.store import timeline
from shared.store.postgres import Connection


async def events_of(connection: Connection, fetches: Sequence[int]) -> list[UUID]:
    """The events that these fetches are made for, in id order."""
    rows = await connection.fetch(
        "SELECT DISTINCT event_id FROM event_fetches WHERE fetch_id = ANY($1) ORDER BY event_id", fetches
    )
    return [row["event_id"] for row in rows]


async def settle_events(
    connection: Connection, events: Sequence[UUID], told: Sequence[tuple[UUID, str, str]] = ()
) -> list[UUID]:
    """Bring planned events to the state that their fetches give them; ``told`` goes before it in their timelines.

    Returns those that are done now.

    The rows are locked first, in id order, so that of two fetches that finish at the same moment the second sees the
    first: ``waiting`` if any fetch waits for a later attempt, else ``processing`` if any is due or running, else
    ``parked`` if its account was removed or a fetch is poison, else ``failed`` if any failed, else ``done``. The reason
    is that of the fetch that decided.
    """
    if not events:
        return []
    await connection.execute("SELECT 1 FROM events WHERE id = ANY($1) ORDER BY id FOR UPDATE", events)
    rows = await connection.fetch(
        """
        WITH judged AS (
            SELECT e.id, e.state AS was, CASE
                WHEN bool_or(f.state = 'waiting') THEN 'waiting'
                WHEN bool_or(f.state IN ('pending', 'running')) THEN 'processing'
                WHEN bool_or(f.error_reason IN ('account-removed', 'poison')) THEN 'parked'
                WHEN bool_or(f.state = 'failed') THEN 'failed'
                ELSE 'done' END AS state,
                (array_agg(f.error_reason ORDER BY f.error_reason = 'account-removed' DESC, f.error_reason = 'poison'
                           DESC, f.id) FILTER (WHERE f.state = 'failed'))[1] AS reason,
                (array_agg(f.error_detail ORDER BY f.error_reason = 'account-removed' DESC, f.error_reason = 'poison'
                           DESC, f.id) FILTER (WHERE f.state = 'failed'))[1] AS detail
            FROM events e
            LEFT JOIN event_fetches l ON l.event_id = e.id
            LEFT JOIN fetches f ON f.id = l.fetch_id
            WHERE e.id = ANY($1) AND e.state IN ('processing', 'waiting')
            GROUP BY e.id
        )
        UPDATE events e SET
            state = j.state,
            finished_at = CASE WHEN j.state IN ('done', 'failed', 'parked') THEN now() END,
            error_reason = CASE WHEN j.state IN ('failed', 'parked') THEN j.reason END,
            error_detail = CASE WHEN j.state IN ('failed', 'parked') THEN j.detail END
        FROM judged j WHERE e.id = j.id AND j.state <> j.was
        RETURNING e.id, e.state, e.error_detail
        """,
        events,
    )
    finished = [row for row in rows if row["state"] in {"done", "failed", "parked"}]
    await timeline.write(
        connection,
        [*told, *((row["id"], row["state"], row["error_detail"] or "every fetch is in") for row in finished)],
    )
    return [row["id"] for row in finished if row["state"] == "done"]
