"""Leases: a worker process holds its claims for as long as it beats."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shared.store import acquitting, releasing
from shared.store.postgres import Connection


_HOLDERS = """
    (SELECT claimed_by FROM {table} WHERE claimed_by IS NOT NULL ORDER BY claimed_by LIMIT 1)
    UNION ALL
    SELECT following.claimed_by FROM {table}_held h CROSS JOIN LATERAL (
        SELECT claimed_by FROM {table} WHERE claimed_by > h.claimed_by ORDER BY claimed_by LIMIT 1
    ) AS following
"""
_ORPHANED = f"""
    WITH RECURSIVE events_held (claimed_by) AS ({_HOLDERS.format(table="events")}),
        fetches_held (claimed_by) AS ({_HOLDERS.format(table="fetches")})
    SELECT claimed_by AS id FROM (SELECT claimed_by FROM events_held UNION SELECT claimed_by FROM fetches_held) AS held
    WHERE NOT EXISTS (SELECT FROM worker_processes w WHERE w.id = held.claimed_by)
"""  # noqa: S608 - put together from constants of this module


async def beat(connection: Connection, worker: UUID, name: str) -> None:
    """Renew this process's lease (or take it up): its row says when it was last alive, by the database's clock.

    A beat that comes late renews whatever the relay has not made due again meanwhile. Of what it has, nothing stays
    under suspicion: the process lives.
    """
    lapsed: bool = await connection.fetchval(
        """
        INSERT INTO worker_processes (id, name) VALUES ($1, $2)
        ON CONFLICT (id) DO UPDATE SET beat_at = now()
        RETURNING EXISTS (SELECT FROM lapses WHERE worker = $1)
        """,
        worker,
        name,
    )
    if lapsed:
        async with connection.transaction():
            await acquitting.acquit(connection, worker)


async def leave(connection: Connection, worker: UUID) -> None:
    """End a process's lease at once: whatever it still holds is due again."""
    async with connection.transaction():
        await releasing.give_back(connection, worker)
        await connection.execute("DELETE FROM worker_processes WHERE id = $1", worker)


async def give_back(
    connection: Connection, worker: UUID, held_events: Sequence[UUID], held_fetches: Sequence[int]
) -> None:
    """Make due again what this process claimed and no longer works on: all but what it says it still holds."""
    async with connection.transaction():
        await releasing.give_back(connection, worker, held_events, held_fetches)


class Expiry:
    """Ends leases that lapsed, but only while this reader itself has read Postgres without a gap for one whole lease.

    A Postgres that froze kept everybody from beating; when it is back they get the time to do so. All times are the
    database's, so a statement that was under way when it froze notices that too.
    """

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._seen: datetime | None = None
        self._orphans_at: datetime | None = None

    async def look(self, connection: Connection, lease_seconds: float) -> int:
        """Look once; often, compared to the lease. Returns how many processes were given up."""
        lease = timedelta(seconds=lease_seconds)
        gap = lease / 4
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        if self._since is None or self._seen is None or not timedelta(0) <= now - self._seen <= gap:
            self._since = now
        self._seen = now
        if now - self._since < lease:
            return 0
        if self._orphans_at is None or now - self._orphans_at >= lease / 2:
            self._orphans_at = now
            await give_back_orphans(connection)
            await acquitting.forget_old(connection)
        return await expire(connection, lease_seconds, until=now + gap)


async def expire(connection: Connection, lease_seconds: float, until: datetime) -> int:
    """End the leases whose last beat is too long ago; returns how many processes were given up.

    After ``until`` (by the database's clock) it ends none.
    """
    async with connection.transaction():
        dead = await connection.fetch(
            """
            SELECT id FROM worker_processes
            WHERE beat_at < now() - make_interval(secs => $1) AND clock_timestamp() <= $2
            ORDER BY id FOR UPDATE SKIP LOCKED
            """,
            lease_seconds,
            until,
        )
        await _end(connection, [row["id"] for row in dead], known=False)
        return len(dead)


async def end(connection: Connection, workers: Sequence[UUID]) -> int:
    """End the leases of processes that are known to have died, at once; returns how many had one.

    A process that ended in its own way has none any more.
    """
    async with connection.transaction():
        dead = await connection.fetch(
            "SELECT id FROM worker_processes WHERE id = ANY($1) ORDER BY id FOR UPDATE", workers
        )
        await _end(connection, [row["id"] for row in dead], known=True)
        await acquitting.forget(connection, workers)
        return len(dead)


async def _end(connection: Connection, dead: Sequence[UUID], *, known: bool) -> None:
    if dead:
        await releasing.give_up(connection, dead, known=known)
        await connection.execute("DELETE FROM worker_processes WHERE id = ANY($1)", dead)


async def give_back_orphans(connection: Connection) -> None:
    """Make due again the claims of processes without a lease: given up while only slow, they died before a next beat.

    Who holds claims is found by leaps in the indexes of claims, of which there may be many. Rare: not for each look.
    """
    async with connection.transaction():
        orphaned = await connection.fetch(_ORPHANED)
        for row in orphaned:
            await releasing.give_back(connection, row["id"])
