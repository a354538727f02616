"""Forgetting a handler that will not come back. By `penstock handlers forget` alone: no process may delete handlers."""

from shared.store.postgres import Connection


FORGOTTEN_AT_ONCE = 5000


async def forget(connection: Connection, name: str) -> int | None:
    """Remove a handler, its place in the feed and its hand-overs; returns how many those were, None if there is none.

    In batches; broken off, the same again goes on. A handler of this name begins anew.
    """
    if not await connection.fetchval("SELECT true FROM handlers WHERE name = $1", name):
        return None
    gone = 0
    while removed := await _remove(connection, name):
        gone += removed
    await connection.execute("DELETE FROM handlers WHERE name = $1", name)
    return gone + await _remove(connection, name)


async def _remove(connection: Connection, name: str) -> int:
    status = await connection.execute(
        """
        DELETE FROM handovers WHERE id IN (
            SELECT id FROM handovers WHERE handler = $1 ORDER BY state, seq LIMIT $2
        )
        """,
        name,
        FORGOTTEN_AT_ONCE,
    )
    return int(status.rpartition(" ")[2])
