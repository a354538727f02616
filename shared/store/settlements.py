"""Events that a commit has left, since very many share a fetch: the relay settles them, a row of them at a time."""

from shared.store import finishing
from shared.store.postgres import Connection


async def settle_next(connection: Connection) -> int:
    """Settle the next events that a commit left, in a transaction; returns how many, 0: none are left.

    Any number of relays may do this at once.
    """
    async with connection.transaction():
        left = await connection.fetchrow(
            """
            DELETE FROM settlements WHERE id = (SELECT id FROM settlements ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING events, step, detail
            """
        )
        if left is None:
            return 0
        await finishing.go_on(connection, left["events"])
        told = []
        if left["step"]:
            there = await connection.fetch("SELECT id FROM events WHERE id = ANY($1) ORDER BY id", left["events"])
            told = [(row["id"], left["step"], left["detail"]) for row in there]
        await finishing.settle_events(connection, left["events"], told)
        return len(left["events"])
