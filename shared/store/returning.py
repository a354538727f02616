"""Events that were parked because their account was removed, and go on when it returns."""

from collections.abc import Sequence
from typing import Final

from shared.store.links import let_go_of_calls
from shared.store.postgres import Connection


AT_ONCE: Final = 500

MOST_UNPLANNED: Final = 5_000
"""While more events of a provider wait to be planned, none goes on: what comes in meanwhile is queued as soon as ever,
and not behind two hundred thousand that nobody can take up yet."""


async def with_room(connection: Connection, accounts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the (provider, account) pairs whose provider's workers keep up with what is there already."""
    rows = await connection.fetch(
        """
        SELECT provider FROM tallies WHERE what = 'event' AND state = 'received'
        GROUP BY provider HAVING sum(delta) >= $1
        """,
        MOST_UNPLANNED,
    )
    full = {row["provider"] for row in rows}
    return [(provider, account) for provider, account in accounts if provider not in full]


async def go_on(connection: Connection, accounts: Sequence[tuple[str, str]], most: int = AT_ONCE) -> int:
    """Plan ``account-removed`` events of these (provider, account) pairs again, ``most`` of them; returns how many.

    What somebody else holds is left for the next time. Of an account it is about the oldest first: an index has equal
    entries in the order of their places in the table.
    """
    # In the order of that index, and of no other: the planner would go through all that ever failed for an account of
    # which nothing waits. An equal sign would make the order nothing to keep.
    async with connection.transaction():
        rows = await connection.fetch(
            """
            WITH parked AS MATERIALIZED (
                SELECT one.id FROM unnest($1::text[], $2::text[]) AS back (provider, account) CROSS JOIN LATERAL (
                    SELECT id FROM events
                    WHERE provider = back.provider AND account BETWEEN back.account AND back.account
                      AND state = 'parked' AND error_reason = 'account-removed' AND discarded_at IS NULL
                    ORDER BY account LIMIT $3 FOR UPDATE SKIP LOCKED
                ) AS one
                LIMIT $3
            ), back AS (
                UPDATE events SET state = 'received', finished_at = NULL, error_reason = NULL, error_detail = NULL,
                                  queue_at = now()
                WHERE id = ANY(ARRAY(SELECT id FROM parked))
                RETURNING id
            )
            INSERT INTO timeline (event_id, step, detail)
            SELECT id, 'account-returned', 'its account is configured again' FROM back RETURNING event_id
            """,
            [provider for provider, _ in accounts],
            [name for _, name in accounts],
            most,
        )
        # whoever is parked has finished calls alone; the new plan decides anew which it needs
        await let_go_of_calls(connection, [row["event_id"] for row in rows])
    return len(rows)
