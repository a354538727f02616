"""What the relay reads and stamps: rows whose message never came, was lost, or is only now due.

The message is sent after the commit: no row is locked while Redis takes its time, and a worker that it wakes finds it.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from shared.store.postgres import Connection


AGAIN_AFTER_SECONDS = 10.0
"""A row that was queued and not taken up is queued again after this time; a second message finds nothing to do. So is
one whose message could not be sent after it was stamped."""

FOLD_AT_ONCE = 10_000


class Due(NamedTuple):
    """Ids to put on a provider's queue, in key order."""

    provider: str
    ids: Sequence[int | UUID]


async def let_due(connection: Connection, limit: int) -> int:
    """Make events due that were put off until now; returns how many. Rows that others hold are skipped."""
    status = await connection.execute(
        """
        UPDATE events SET due_at = NULL, queue_at = now() WHERE id = ANY(ARRAY(
            SELECT id FROM events WHERE due_at <= now() AND claimed_by IS NULL
            ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ))
        """,
        limit,
    )
    return int(status.rpartition(" ")[2])


async def due_events(connection: Connection, providers: Sequence[str], limit: int) -> list[Due]:
    """Unplanned events to queue again, stamped; rows that others hold are skipped."""
    return await _due(
        connection,
        """
        SELECT id FROM events
        WHERE state = 'received' AND claimed_by IS NULL AND queue_at <= now() AND provider = ANY($1)
        ORDER BY queue_at LIMIT $2 FOR UPDATE SKIP LOCKED
        """,
        "events",
        providers,
        limit,
    )


async def due_fetches(connection: Connection, providers: Sequence[str], limit: int) -> list[Due]:
    """Fetches whose time has come, stamped; rows that others hold are skipped."""
    return await _due(
        connection,
        """
        SELECT id FROM fetches
        WHERE state IN ('pending', 'waiting') AND queue_at <= now() AND provider = ANY($1)
        ORDER BY queue_at LIMIT $2 FOR UPDATE SKIP LOCKED
        """,
        "fetches",
        providers,
        limit,
    )


async def _due(connection: Connection, select: str, table: str, providers: Sequence[str], limit: int) -> list[Due]:
    # A transaction for its settings: behind pgbouncer a single statement has none.
    async with connection.transaction():
        rows = await connection.fetch(
            f"""
            WITH due AS ({select})
            UPDATE {table} SET queue_at = now() + make_interval(secs => $3)
            WHERE id IN (SELECT id FROM due) RETURNING id, provider
            """,  # noqa: S608 - put together from constants of this module
            providers,
            limit,
            AGAIN_AFTER_SECONDS,
        )
    by_provider: dict[str, list[int | UUID]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        by_provider.setdefault(row["provider"], []).append(row["id"])
    return [Due(provider, ids) for provider, ids in by_provider.items()]


async def fold_tallies(connection: Connection) -> bool:
    """Sum the ledger of counts up, so that reading it stays cheap however much was counted. Whether there is more."""
    folded: int = await connection.fetchval(
        """
        WITH folded AS (
            DELETE FROM tallies WHERE id IN (SELECT id FROM tallies ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
            RETURNING provider, what, state, delta
        ), summed AS (
            INSERT INTO tallies (provider, what, state, delta)
            SELECT provider, what, state, sum(delta) FROM folded GROUP BY provider, what, state HAVING sum(delta) <> 0
        )
        SELECT count(*) FROM folded
        """,
        FOLD_AT_ONCE,
    )
    return folded == FOLD_AT_ONCE
