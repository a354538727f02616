"""Since when a worker process only fails: written when it begins to and when it succeeds again, never in between."""

from uuid import UUID

from shared.store.postgres import Connection


async def note(connection: Connection, worker: UUID, error: str | None) -> None:
    """Note that the process has failed with this, or (None) that it has succeeded."""
    await connection.execute(
        """
        UPDATE worker_processes SET
            failing_since = CASE WHEN $2::text IS NULL THEN NULL ELSE coalesce(failing_since, now()) END,
            error = left($2, 500)
        WHERE id = $1
        """,
        worker,
        error,
    )
