"""What stands although it could go on: events that nobody plans, calls that nobody makes.

Of each account the next one to be taken stands for all: it is found by a step into an index, however many there are.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from shared.store.due import EVENT_SUSPECT, EVENT_WAITS, FETCH_DUE, FETCH_OPEN, FETCH_WAITS
from shared.store.postgres import Connection


class Unplanned(NamedTuple):
    """The event of a provider that has stood ``received`` longest since anything happened to it.

    ``background``: it is replayed or reconciled, and gives way to live ones.
    """

    provider: str
    account: str
    event: UUID
    seconds: float
    background: bool


def _accounts(name: str, table: str, waits: str) -> str:
    """A CTE of the (provider, account) pairs that have anything open, by leaps in the index; $1 names the providers."""
    return f"""
        {name} (provider, account) AS (
            SELECT first.provider, first.account FROM unnest($1::text[]) AS names (provider) CROSS JOIN LATERAL (
                SELECT provider, account FROM {table} WHERE provider = names.provider AND {waits}
                ORDER BY account LIMIT 1
            ) AS first
            UNION ALL
            SELECT following.provider, following.account FROM {name} a CROSS JOIN LATERAL (
                SELECT provider, account FROM {table}
                WHERE provider = a.provider AND {waits} AND account > a.account ORDER BY account LIMIT 1
            ) AS following
        )
    """  # noqa: S608 - put together from constants of this module


# A replayed event came in long ago: what counts is when anything last happened to it. Those that a process holds are at
# most what its batch takes.
_HEADS: Final = f"""
    {_accounts("of_events", "events", EVENT_WAITS)}, heads AS (
        SELECT head.* FROM of_events a CROSS JOIN LATERAL (
            SELECT provider, account, id, received_at, background OR reconciled AS background FROM events
            WHERE provider = a.provider AND account = a.account AND {EVENT_WAITS} ORDER BY id LIMIT 1
        ) AS head
        UNION ALL
        SELECT suspect.* FROM unnest($1::text[]) AS names (provider) CROSS JOIN LATERAL (
            SELECT provider, account, id, received_at, background OR reconciled AS background FROM events
            WHERE provider = names.provider AND {EVENT_SUSPECT}
            ORDER BY id LIMIT 1
        ) AS suspect
        UNION ALL
        SELECT provider, account, id, received_at, background OR reconciled FROM events
        WHERE claimed_by IS NOT NULL AND state = 'received' AND provider = ANY($1)
    ), stood AS (
        SELECT provider, account, id, background, extract(epoch FROM clock_timestamp() - greatest(received_at, (
            SELECT at FROM timeline WHERE event_id = heads.id ORDER BY timeline.id DESC LIMIT 1
        )))::float8 AS seconds
        FROM heads
    )
"""  # noqa: S608 - put together from constants of this module

UNPLANNED: Final = f"""
    WITH RECURSIVE {_HEADS}
    SELECT DISTINCT ON (provider) provider, account, id, greatest(seconds, 0), background
    FROM stood ORDER BY provider, seconds DESC
"""  # noqa: S608 - put together from constants of this module
"""$1 names the providers; a row, as ``Unplanned`` has it, for each that has any."""

OLDEST_DUE: Final = f"""
    WITH RECURSIVE {_HEADS}, {_accounts("of_fetches", "fetches", FETCH_WAITS)}, due AS (
        SELECT provider, seconds FROM stood
        UNION ALL
        SELECT a.provider, extract(epoch FROM clock_timestamp() - head.due_at) FROM of_fetches a CROSS JOIN LATERAL (
            SELECT due_at FROM fetches
            WHERE provider = a.provider AND account = a.account AND {FETCH_WAITS} AND {FETCH_DUE}
            ORDER BY due_at LIMIT 1
        ) AS head
        UNION ALL
        SELECT names.provider, extract(epoch FROM clock_timestamp() - head.due_at)
        FROM unnest($1::text[]) AS names (provider) CROSS JOIN LATERAL (
            SELECT due_at FROM fetches WHERE provider = names.provider AND {FETCH_OPEN} AND suspect AND {FETCH_DUE}
            ORDER BY due_at LIMIT 1
        ) AS head
    )
    SELECT names.provider,
           CASE WHEN max(due.seconds) < 0 THEN 0 ELSE max(due.seconds) END::float8 AS seconds
    FROM unnest($1::text[]) AS names (provider) LEFT JOIN due USING (provider) GROUP BY names.provider
"""  # noqa: S608 - put together from constants of this module
"""$1 names the providers; for each, for how long the oldest work that could be done has been due, or NULL.

What waits for a stated time is not due before it, and what is being done is not due any more.
"""


async def unplanned(connection: Connection, providers: Sequence[str]) -> list[Unplanned]:
    """Of each provider that has any, the event that has stood longest."""
    return [Unplanned(*row) for row in await connection.fetch(UNPLANNED, providers)]
