"""Leases: a worker process holds its claims for as long as it beats."""

from collections.abc import Sequence
from uuid import UUID

from shared.store.postgres import Connection


async def beat(connection: Connection, worker: UUID, name: str) -> None:
    """Renew this process's lease (or take it up): its row says when it was last alive, by the database's clock."""
    await connection.execute(
        """
        INSERT INTO worker_processes (id, name) VALUES ($1, $2)
        ON CONFLICT (id) DO UPDATE SET beat_at = now()
        """,
        worker,
        name,
    )


async def leave(connection: Connection, worker: UUID) -> None:
    """End a process's lease at once: whatever it still holds is due again."""
    async with connection.transaction():
        await _release(connection, [worker])


async def expire(connection: Connection, lease_seconds: float) -> int:
    """End the leases whose last beat is too long ago; returns how many processes were given up."""
    async with connection.transaction():
        dead = await connection.fetch(
            """
            SELECT id FROM worker_processes WHERE beat_at < now() - make_interval(secs => $1)
            ORDER BY id FOR UPDATE SKIP LOCKED
            """,
            lease_seconds,
        )
        # Claims of a process that was given up while it was only slow, and that died before its next beat.
        orphaned = await connection.fetch(
            """
            SELECT claimed_by AS id FROM (
                SELECT claimed_by FROM events WHERE claimed_by IS NOT NULL
                UNION SELECT claimed_by FROM fetches WHERE claimed_by IS NOT NULL
            ) AS claims
            WHERE NOT EXISTS (SELECT FROM worker_processes w WHERE w.id = claims.claimed_by)
            """
        )
        await _release(connection, sorted(row["id"] for row in (*dead, *orphaned)))
        return len(dead)


async def give_back(
    connection: Connection, worker: UUID, held_events: Sequence[UUID], held_fetches: Sequence[int]
) -> None:
    """Make due again what this process claimed and no longer works on: all but what it says it still holds."""
    async with connection.transaction():
        await _release_events(connection, [worker], held_events)
        await _release_fetches(connection, [worker], held_fetches)


async def _release(connection: Connection, workers: list[UUID]) -> None:
    if not workers:
        return
    await _release_events(connection, workers, [])
    await _release_fetches(connection, workers, [])
    await connection.execute("DELETE FROM worker_processes WHERE id = ANY($1)", workers)


async def _release_events(connection: Connection, workers: list[UUID], held: Sequence[UUID]) -> None:
    await connection.execute(
        """
        UPDATE events SET claimed_by = NULL, token = NULL, queue_at = now()
        WHERE claimed_by = ANY($1) AND id <> ALL($2)
        """,
        workers,
        held,
    )


async def _release_fetches(connection: Connection, workers: list[UUID], held: Sequence[int]) -> None:
    """Make fetches due again; one that was asked for anew meanwhile is merged into that one."""
    await connection.execute(
        """
        WITH lost AS (
            SELECT id, resource, attempts FROM fetches WHERE claimed_by = ANY($1) AND id <> ALL($2) FOR UPDATE
        ), merged AS (
            SELECT lost.id, heir.id AS heir FROM lost
            JOIN fetches heir ON heir.resource = lost.resource AND heir.state IN ('pending', 'waiting')
        ), moved AS (
            INSERT INTO event_fetches (event_id, fetch_id)
            SELECT link.event_id, merged.heir FROM merged JOIN event_fetches link ON link.fetch_id = merged.id
            ON CONFLICT DO NOTHING
        ), unlinked AS (
            DELETE FROM event_fetches WHERE fetch_id IN (SELECT id FROM merged)
        ), gone AS (
            DELETE FROM fetches WHERE id IN (SELECT id FROM merged)
        )
        UPDATE fetches SET state = 'pending', claimed_by = NULL, token = NULL, due_at = now(), queue_at = now()
        WHERE id IN (SELECT id FROM lost) AND id NOT IN (SELECT id FROM merged)
        """,
        workers,
        held,
    )
