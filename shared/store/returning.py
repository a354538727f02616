"""Events that were parked because their account was removed, and go on when it returns."""

from collections.abc import Sequence

from shared.store.links import let_go_of_calls
from shared.store.postgres import Connection


async def go_on(connection: Connection, accounts: Sequence[tuple[str, str]]) -> int:
    """Plan the ``account-removed`` events of these (provider, account) pairs again; returns how many."""
    async with connection.transaction():
        rows = await connection.fetch(
            """
        WITH parked AS (
            SELECT id FROM events
            WHERE state = 'parked' AND error_reason = 'account-removed' AND discarded_at IS NULL
              AND (provider, account) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            ORDER BY id FOR UPDATE
        ), back AS (
            UPDATE events SET state = 'received', finished_at = NULL, error_reason = NULL, error_detail = NULL,
                              queue_at = now()
            WHERE id IN (SELECT id FROM parked)
            RETURNING id
        )
        INSERT INTO timeline (event_id, step, detail)
        SELECT id, 'account-returned', 'its account is configured again' FROM back RETURNING event_id
        """,
            [provider for provider, _ in accounts],
            [name for _, name in accounts],
        )
        # whoever is parked has finished calls alone; the new plan decides anew which it needs
        await let_go_of_calls(connection, [row["event_id"] for row in rows])
    return len(rows)
