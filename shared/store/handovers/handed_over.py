"""Settling hand-overs: what came of them, what that says of their handler, and what dead processes left behind."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.store.handovers.handing_over import FAILURES_TO_OPEN, Delivered, Subscription
from shared.store.postgres import Connection
from shared.store.text import storable


DEATHS = 3
"""So many worker processes may die of one hand-over before it is parked; a restart in its middle counts as well."""

AT_ONCE = 1000
"""So many are made due again in one statement; a process, which has one handler at a time, never holds more."""

DETAIL_CHARACTERS = 500
"""So much of what an application said is kept."""

OPEN_SECONDS = 1.0
LONGEST_OPEN_SECONDS = 60.0
"""How long a circuit stays open: twice as long after each failure that follows, up to the longest."""


async def commit(connection: Connection, subscription: Subscription, results: Sequence[Delivered]) -> int:
    """Settle hand-overs in one transaction, and what they tell of the handler; returns how many were still held."""
    async with connection.transaction():
        held: int = await connection.fetchval(
            """
            WITH settled AS (
                UPDATE handovers h SET
                    state = r.state, status = r.status, error_reason = r.reason, error_detail = r.detail,
                    attempts = attempts - CASE WHEN r.counted THEN 0 ELSE 1 END, due_at = now() + r.wait,
                    finished_at = CASE WHEN r.state <> 'waiting' THEN now() END, claimed_by = NULL, token = NULL
                FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::text[], $7::interval[],
                            $8::bool[]) AS r (id, token, state, status, reason, detail, wait, counted)
                WHERE h.id = r.id AND h.token = r.token
                RETURNING h.id
            )
            SELECT count(*) FROM settled
            """,
            [result.handover.id for result in results],
            [result.handover.token for result in results],
            [result.state for result in results],
            [result.status for result in results],
            [result.reason for result in results],
            [storable(result.detail, DETAIL_CHARACTERS) or None for result in results],
            [timedelta(seconds=result.wait_seconds) for result in results],
            [result.counted for result in results],
        )
        await _tell(connection, subscription, results)
    return held


async def _tell(connection: Connection, subscription: Subscription, results: Sequence[Delivered]) -> None:
    """Write down what the results say of the handler as such; nothing where all goes well."""
    reached = any(result.reached for result in results)
    failed = sum(result.reached is False for result in results)
    asked = max((result.pause_seconds for result in results), default=0.0)
    gone = next((result for result in results if result.stop), None)
    if reached:
        await connection.execute(
            "UPDATE handlers SET failures = 0, open_until = NULL WHERE name = $1 AND failures > 0", subscription.name
        )
    elif failed:
        # What was under way when the circuit opened tells nothing new; from then on each try counts once.
        await connection.execute(
            """
            UPDATE handlers SET
                failures = greatest(failures + 1, least(failures + $2, $3)),
                open_until = CASE WHEN failures + $2 >= $3 THEN
                    now() + make_interval(secs => least($5, $4 * 2 ^ least(greatest(failures + 1 - $3, 0), 30)))
                    ELSE open_until END
            WHERE name = $1 AND (open_until IS NULL OR open_until <= now())
            """,
            subscription.name,
            failed,
            FAILURES_TO_OPEN,
            OPEN_SECONDS,
            LONGEST_OPEN_SECONDS,
        )
    if asked:
        await connection.execute(
            "UPDATE handlers SET open_until = greatest(open_until, now() + make_interval(secs => $2)) WHERE name = $1",
            subscription.name,
            asked,
        )
    if gone:
        await connection.execute(
            "UPDATE handlers SET stopped_reason = $2, stopped_detail = $3, stopped_target = $4 WHERE name = $1",
            subscription.name,
            gone.reason,
            storable(gone.detail, DETAIL_CHARACTERS),
            subscription.target,
        )


async def give_back(connection: Connection, worker: UUID) -> None:
    """Make due again what this living process claimed and does not work on any more."""
    await connection.execute(
        """
        UPDATE handovers SET state = 'pending', claimed_by = NULL, token = NULL, due_at = now()
        WHERE id IN (
            SELECT id FROM handovers WHERE state = 'running' AND claimed_by = $1
            ORDER BY handler, lane LIMIT $2 FOR UPDATE SKIP LOCKED
        )
        """,
        worker,
        AT_ONCE,
    )


async def lapse(connection: Connection, longest_seconds: float) -> int:
    """Make due again what dead processes held, or anybody for longer than a task may take; returns how many.

    A bounded number; the next call goes on.

    What was claimed alone and took its process down ``DEATHS`` times is parked as ``poison``.
    """
    status = await connection.execute(
        """
        UPDATE handovers SET
            deaths = deaths + CASE WHEN alone THEN 1 ELSE 0 END,
            state = CASE WHEN alone AND deaths + 1 >= $2 THEN 'parked' ELSE 'pending' END,
            finished_at = CASE WHEN alone AND deaths + 1 >= $2 THEN now() END,
            error_reason = CASE WHEN alone THEN 'poison' ELSE error_reason END,
            error_detail = CASE WHEN alone THEN
                'its worker process died ' || deaths + 1 || ' times while the handler had it' ELSE error_detail END,
            claimed_by = NULL, token = NULL, due_at = now()
        WHERE id IN (
            SELECT id FROM handovers h
            WHERE state = 'running'
              AND (began_at < now() - make_interval(secs => $1)
                   OR NOT EXISTS (SELECT FROM worker_processes w WHERE w.id = h.claimed_by))
            ORDER BY handler, lane LIMIT $3 FOR UPDATE OF h SKIP LOCKED
        )
        """,
        longest_seconds,
        DEATHS,
        AT_ONCE,
    )
    return int(status.rpartition(" ")[2])
