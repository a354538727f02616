"""How far each provider's events are, at the least cost: what a screen asks for every second."""

from collections.abc import Sequence
from typing import Any

from shared.store.postgres import Connection
from shared.store.stuck import OLDEST_DUE


_EVENTS = (
    "SELECT provider, state, sum(delta)::bigint AS events FROM tallies WHERE what = 'event' GROUP BY provider, state"
)


async def progress(connection: Connection, providers: Sequence[str]) -> list[dict[str, Any]]:
    """``{"provider", "events": {state: count}, "oldest_due_seconds"}`` of each provider: a part of its stats.

    Without SQLAlchemy, which takes 16 MB of a process (``reading.counting`` has the whole of it).
    """
    found: dict[str, dict[str, Any]] = {
        row["provider"]: {"provider": row["provider"], "events": {}, "oldest_due_seconds": row["seconds"]}
        for row in await connection.fetch(OLDEST_DUE, providers)
    }
    for row in await connection.fetch(_EVENTS):
        if row["provider"] in found:
            found[row["provider"]]["events"][row["state"]] = row["events"]
    return list(found.values())
