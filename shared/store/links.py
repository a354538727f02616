"""Parting events from their calls: a call that no event leads to any more goes with its last link."""

from collections.abc import Sequence
from uuid import UUID

from shared.store.postgres import Connection


_FINISHED = """
    SELECT id FROM fetches
    WHERE id = ANY(ARRAY(SELECT fetch_id FROM event_fetches WHERE event_id = ANY($1))) AND state IN ('done', 'failed')
"""
# Of two events that are parted at the same moment the second must see the first one's link gone: the calls are locked
# before. What somebody else holds is left to retention, which finds calls that nobody leads to.
_LOCK = "SELECT id FROM fetches WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED"
_UNLINK = "DELETE FROM event_fetches WHERE event_id = ANY($1) AND fetch_id = ANY($2)"
_GONE = """
    DELETE FROM fetches f WHERE f.id = ANY($1)
      AND (SELECT true FROM event_fetches l WHERE l.fetch_id = f.id LIMIT 1) IS NULL
"""


async def let_go_of_calls(connection: Connection, events: Sequence[UUID]) -> None:
    """Part events from their finished calls, inside the caller's transaction: a new plan decides anew what to call.

    A call that is still open serves the new plan too, and one that runs is left to its commit.
    """
    if not events:
        return
    finished = [row["id"] for row in await connection.fetch(_FINISHED, list(events))]
    if not finished:
        return
    locked = await connection.fetch(_LOCK, finished)
    await connection.execute(_UNLINK, list(events), finished)
    await connection.execute(_GONE, [row["id"] for row in locked])


async def remove_calls_of_nobody(connection: Connection, after: int, limit: int) -> tuple[int, int, bool]:
    """Remove finished calls behind ``after`` that no event leads to, inside the caller's transaction.

    Returns how many, where to go on, and whether that was the end.
    """
    page = await connection.fetch("SELECT id FROM fetches WHERE id > $1 ORDER BY id LIMIT $2", after, limit)
    ids = [row["id"] for row in page]
    locked = await connection.fetch(
        """
        SELECT id FROM fetches f WHERE id = ANY($1) AND state IN ('done', 'failed')
          AND (SELECT true FROM event_fetches l WHERE l.fetch_id = f.id LIMIT 1) IS NULL
        ORDER BY id FOR UPDATE SKIP LOCKED
        """,
        ids,
    )
    status = await connection.execute(_GONE, [row["id"] for row in locked])
    return int(status.rpartition(" ")[2]), ids[-1] if ids else after, len(ids) < limit
