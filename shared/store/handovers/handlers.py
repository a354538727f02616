"""Handlers as the store knows them: where each one is in the feed, its circuit, and whether it has anything to do."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.store.postgres import Connection


AGAIN_AFTER_SECONDS = 10.0
"""A handler that was woken and not taken up is woken again after this time."""


class NewHandler(NamedTuple):
    """A handler that may be unknown; ``beginning``: it begins with all that the feed still holds, not with now."""

    name: str
    beginning: bool


async def register(connection: Connection, handlers: Sequence[NewHandler]) -> None:
    """Write down the handlers that are new, and where in the feed they begin; known ones stay as they are."""
    if handlers:
        await connection.execute(
            """
            INSERT INTO handlers (name, cursor)
            SELECT name, CASE WHEN beginning THEN 0 ELSE (SELECT coalesce(max(seq), 0) FROM changes) END
            FROM unnest($1::text[], $2::bool[]) AS h (name, beginning) ORDER BY name
            ON CONFLICT DO NOTHING
            """,
            [handler.name for handler in handlers],
            [handler.beginning for handler in handlers],
        )


async def wake(connection: Connection) -> list[str]:
    """Stamp the handlers that have something to do; returns their names, for a message after the commit.

    Costs next to nothing where there is no handler. One whose circuit is open, that is stopped, or of which all waits
    for later attempts has nothing to do.
    """
    rows = await connection.fetch(
        """
        UPDATE handlers SET woken_at = now() WHERE name IN (
            SELECT name FROM handlers h
            WHERE stopped_reason IS NULL AND (open_until IS NULL OR open_until <= now())
              AND (next_at IS NULL OR next_at <= now() + interval '1 second')
              AND (woken_at IS NULL OR woken_at <= now() - make_interval(secs => $1))
              AND (cursor < (SELECT max(seq) FROM changes)
                   OR ((quiet_until IS NULL OR quiet_until <= now())
                       AND EXISTS (SELECT FROM handovers o WHERE o.handler = h.name AND o.due_at <= now()
                                   AND o.state IN ('pending', 'waiting'))))
            ORDER BY name FOR NO KEY UPDATE SKIP LOCKED
        )
        RETURNING name
        """,
        AGAIN_AFTER_SECONDS,
    )
    return sorted(row["name"] for row in rows)


async def stir(connection: Connection) -> None:
    """Have every handler looked at anew, within the caller's transaction, which changed when hand-overs are due."""
    await connection.execute("UPDATE handlers SET quiet_until = NULL WHERE quiet_until IS NOT NULL")


async def resume(connection: Connection, name: str) -> bool:
    """Let a handler that was stopped or whose circuit is open go on at once; False if there is none of this name."""
    status = await connection.execute(
        """
        UPDATE handlers SET stopped_reason = NULL, stopped_detail = NULL, stopped_target = NULL, open_until = NULL,
                            failures = 0, woken_at = NULL, quiet_until = NULL
        WHERE name = $1
        """,
        name,
    )
    return bool(status == "UPDATE 1")
