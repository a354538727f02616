"""Numbers the change feed: after the commit, by one sequencer at a time, so that no reader passes a late entry."""

import time
from typing import TYPE_CHECKING

from shared.store.postgres import STATEMENT_SECONDS


if TYPE_CHECKING:
    from shared.store.postgres import Connection

# Any fixed number will do: it names the lock among all users of this database.
_LOCK = 0x70656E73746F636B  # "penstock"

_AT_ONCE = 10_000

# The inner LIMIT keeps the planner from drawing numbers before the rows are sorted. Rows that others have written but
# not committed yet are not seen here; they get higher numbers in a later round, which is the point. Nobody writes to a
# row without a number meanwhile (``hold_numbering``): it would not be where it was found, and a later change of the
# same record would get the lower number.
_NUMBER = """
    WITH late AS MATERIALIZED (SELECT ctid FROM changes WHERE seq IS NULL ORDER BY id LIMIT $1),
         numbered AS MATERIALIZED (SELECT ctid, nextval('change_numbers') AS seq FROM late)
    UPDATE changes SET seq = numbered.seq FROM numbered WHERE changes.ctid = numbered.ctid
"""


async def hold_numbering(connection: "Connection") -> None:
    """Let nothing be numbered until the caller's transaction ends: for whoever writes to changes without a number."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def number_backlog(connection: "Connection", seconds: float, at_once: int = _AT_ONCE) -> int:
    """Number changes, ``at_once`` a transaction, until none is left or the time is up. Returns how many."""
    ends_at, numbered = time.monotonic() + seconds, 0
    # Most looks find none: one round trip then, and not five.
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM changes WHERE seq IS NULL)"):
        return 0
    while True:
        done = await number_changes(connection, at_once)
        numbered += done
        if done < at_once or time.monotonic() >= ends_at:
            return numbered


async def number_changes(connection: "Connection", limit: int = _AT_ONCE) -> int:
    """Give the next numbers to at most ``limit`` committed changes, oldest first, and commit. Returns how many.

    The lock is held until the commit, so numbers become visible in their own order: a reader that has seen a number
    has been able to see every lower one.
    """
    async with connection.transaction(isolation="read_committed"):
        # a statement of its own: the next one's snapshot must begin after the lock is ours
        await hold_numbering(connection)
        # from the index: with a young table's statistics the planner would sort the whole backlog in every round
        await connection.execute("SET LOCAL enable_sort = off")
        status = await connection.execute(_NUMBER, limit, timeout=STATEMENT_SECONDS)
    return int(status.rpartition(" ")[2])
