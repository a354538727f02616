"""What the relay reads and stamps: rows whose message never came, was lost, or is only now due."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from shared.store.postgres import Connection


AGAIN_AFTER_SECONDS = 10.0
"""A row that was queued and not taken up is queued again after this time; a second message finds nothing to do."""


class Due(NamedTuple):
    """Ids to put on a provider's queue, in key order."""

    provider: str
    ids: Sequence[int | UUID]


async def due_events(connection: Connection, providers: Sequence[str], limit: int) -> list[Due]:
    """Unplanned events to queue again, locked and stamped within the caller's transaction; others' rows are skipped.

    What was put off and has come to its time is due from now on.
    """
    return await _due(
        connection,
        """
        SELECT id FROM events
        WHERE state = 'received' AND claimed_by IS NULL AND queue_at <= now() AND provider = ANY($1)
        ORDER BY queue_at LIMIT $2 FOR UPDATE SKIP LOCKED
        """,
        "events",
        "due_at = NULL,",
        providers,
        limit,
    )


async def due_fetches(connection: Connection, providers: Sequence[str], limit: int) -> list[Due]:
    """Fetches whose time has come, locked and stamped within the caller's transaction; others' rows are skipped."""
    return await _due(
        connection,
        """
        SELECT id FROM fetches
        WHERE state IN ('pending', 'waiting') AND queue_at <= now() AND provider = ANY($1)
        ORDER BY queue_at LIMIT $2 FOR UPDATE SKIP LOCKED
        """,
        "fetches",
        "",
        providers,
        limit,
    )


async def _due(
    connection: Connection, select: str, table: str, also: str, providers: Sequence[str], limit: int
) -> list[Due]:
    rows = await connection.fetch(
        f"""
        WITH due AS ({select})
        UPDATE {table} SET {also} queue_at = now() + make_interval(secs => $3)
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


async def fold_tallies(connection: Connection) -> None:
    """Sum the ledger of counts up, so that reading it stays cheap however much was counted."""
    await connection.execute(
        """
        WITH folded AS (
            DELETE FROM tallies WHERE id IN (SELECT id FROM tallies ORDER BY id LIMIT 10000 FOR UPDATE SKIP LOCKED)
            RETURNING provider, what, state, delta
        )
        INSERT INTO tallies (provider, what, state, delta)
        SELECT provider, what, state, sum(delta) FROM folded GROUP BY provider, what, state HAVING sum(delta) <> 0
        """
    )
