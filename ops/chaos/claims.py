"""What a killed process held, and when somebody else has it."""

import asyncio
import time
from collections.abc import Collection

from shared.store.postgres import Connection, connect_once


LONGEST_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_DYING_SECONDS = 0.05
"""A child ends a moment after its parent; what it still finished meanwhile is no longer held."""

# A worker process is noted under the name of its worker and its own id. Its rows stay claimed until its lease lapses.
_HELD_EVENTS = """
    SELECT e.id, e.token FROM events e JOIN worker_processes w ON w.id = e.claimed_by WHERE w.name ~ $1
"""
_HELD_RESOURCES = """
    SELECT DISTINCT f.resource FROM fetches f JOIN worker_processes w ON w.id = f.claimed_by
    WHERE f.state = 'running' AND w.name ~ $1
"""
# A fetch may be merged into one that was asked for meanwhile, so it is its resource that is followed. What was found
# to be poison is in nobody's hands any more.
_LEFT = """
    SELECT EXISTS (
        SELECT FROM unnest($1::uuid[], $2::bigint[]) AS held (id, token) JOIN events e USING (id)
        WHERE e.state = 'received' AND (e.token IS NULL OR e.token = held.token)
    ) OR EXISTS (
        SELECT FROM unnest($3::bytea[]) AS held (resource) WHERE NOT EXISTS (
            SELECT FROM fetches f WHERE f.resource = held.resource AND (f.began_at > $4 OR f.finished_at > $4)
        )
    )
"""


class Claims:
    """Looks at the claims in one database."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    async def taken_up(self, pids: Collection[int]) -> float:
        """Seconds until others have claimed what these processes held, which were killed just now; 0.0 if nothing.

        After a minute it waits no longer.
        """
        killed = time.monotonic()
        await asyncio.sleep(_DYING_SECONDS)
        connection = await connect_once(self._url)
        try:
            return await self._wait(connection, f"-({'|'.join(map(str, pids))})$", killed)
        finally:
            connection.terminate()

    async def _wait(self, connection: Connection, names: str, killed: float) -> float:
        since = await connection.fetchval("SELECT clock_timestamp()")
        events = await connection.fetch(_HELD_EVENTS, names)
        resources = [row["resource"] for row in await connection.fetch(_HELD_RESOURCES, names)]
        if not events and not resources:
            return 0.0
        held = [row["id"] for row in events], [row["token"] for row in events], resources, since
        while await connection.fetchval(_LEFT, *held):
            if time.monotonic() - killed > LONGEST_SECONDS:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return round(time.monotonic() - killed, 1)
