"""The state of an event follows from the states of its fetches; this is the one place that says how."""

from collections.abc import Sequence
from uuid import UUID

from shared.store import timeline
from shared.store.postgres import Connection


_LOCK = "SELECT id, state FROM events WHERE id = ANY($1) ORDER BY id FOR UPDATE"

# What the events' states were is told and not asked again: a condition on them would let a plan that was made while the
# tables were young read every unfinished event (the partial index), and the connection would keep it. For the same
# reason the fetches are looked up event by event, and events are named by id twice.
_SETTLE = f"""
WITH settled AS (
    UPDATE events e SET
        state = j.state,
        finished_at = CASE WHEN j.state IN ('done', 'failed', 'parked') THEN now() END,
        error_reason = CASE WHEN j.state IN ('failed', 'parked') THEN j.reason END,
        error_detail = CASE WHEN j.state IN ('failed', 'parked') THEN j.detail END
    FROM unnest($1::uuid[], $2::text[]) AS planned (id, was) CROSS JOIN LATERAL (
        SELECT CASE
                WHEN bool_or(f.state = 'waiting') THEN 'waiting'
                WHEN bool_or(f.state IN ('pending', 'running')) THEN 'processing'
                WHEN bool_or(f.error_reason IN ('account-removed', 'poison')) THEN 'parked'
                WHEN bool_or(f.state = 'failed') THEN 'failed'
                ELSE 'done' END AS state,
            (array_agg(f.error_reason ORDER BY f.error_reason = 'account-removed' DESC, f.error_reason = 'poison'
                       DESC, f.id) FILTER (WHERE f.state = 'failed'))[1] AS reason,
            (array_agg(f.error_detail ORDER BY f.error_reason = 'account-removed' DESC, f.error_reason = 'poison'
                       DESC, f.id) FILTER (WHERE f.state = 'failed'))[1] AS detail
        FROM event_fetches l JOIN fetches f ON f.id = l.fetch_id WHERE l.event_id = planned.id
    ) AS j
    WHERE e.id = ANY($1) AND e.id = planned.id AND j.state <> planned.was
    RETURNING e.id, e.state, e.error_detail
), finished AS (
    SELECT id, state, coalesce(error_detail, 'every fetch is in') AS detail FROM settled
    WHERE state IN ('done', 'failed', 'parked')
), told AS (
    INSERT INTO timeline (event_id, step, detail)
    SELECT * FROM unnest($3::uuid[], $4::text[], $5::text[])
    UNION ALL
    SELECT id, state, left(detail, {timeline.MAX_DETAIL}) FROM finished
)
SELECT id FROM finished WHERE state = 'done'
"""  # noqa: S608 - put together from constants


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
    locked = await connection.fetch(_LOCK, events)
    planned = [(row["id"], row["state"]) for row in locked if row["state"] in {"processing", "waiting"}]
    done = await connection.fetch(
        _SETTLE, [event for event, _ in planned], [state for _, state in planned], *timeline.columns(told)
    )
    return [row["id"] for row in done]
