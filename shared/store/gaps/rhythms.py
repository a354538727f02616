"""The accounts' rhythms in the store: looked at by whichever relay comes first, once in a while."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from shared import rhythm
from shared.rhythm import Rhythm
from shared.store.postgres import Connection


LOOK_SECONDS = 60.0


class Silence(NamedTuple):
    """An account that is silent for longer than it should be, or that (``over``) speaks again."""

    provider: str
    account: str
    last_event_at: datetime
    expected: float
    over: bool = False


async def look(connection: Connection, accounts: Sequence[tuple[str, str]], silence_spans: float) -> list[Silence]:
    """Look at those accounts that nobody looked at within a minute; which silences have begun or ended since.

    The newest event is found by one step into an index; what reconciliation made does not count.
    """
    news = []
    async with connection.transaction():
        rows = await connection.fetch(
            """
            WITH wanted AS (
                SELECT * FROM unnest($1::text[], $2::text[]) AS w (provider, account)
            ), made AS (
                INSERT INTO rhythms (provider, account, spans, weeks, hour, in_hour, whole, looked_at)
                SELECT provider, account, array_fill(0::real, ARRAY[$4::int]), array_fill(0::smallint, ARRAY[$4::int]),
                       date_trunc('hour', now(), 'UTC'), 0, false, now() - make_interval(secs => $3)
                FROM wanted ON CONFLICT DO NOTHING
            )
            SELECT r.*, now() AS now, (
                SELECT received_at FROM events e
                WHERE e.provider = r.provider AND e.account = r.account AND NOT e.reconciled
                ORDER BY e.id DESC LIMIT 1
            ) AS newest
            FROM rhythms r JOIN wanted USING (provider, account)
            WHERE r.looked_at <= now() - make_interval(secs => $3) FOR UPDATE OF r SKIP LOCKED
            """,
            [provider for provider, _ in accounts],
            [account for _, account in accounts],
            LOOK_SECONDS,
            rhythm.HOURS,
        )
        for row in rows:
            seen = rhythm.look(_rhythm(row), row["now"], row["newest"])
            silent = rhythm.is_silent(seen, row["now"], silence_spans)
            if silent != row["warned"] and seen.last_event_at is not None:
                amount = rhythm.expected(seen, row["now"])
                news.append(Silence(row["provider"], row["account"], seen.last_event_at, amount, over=not silent))
            await _keep(connection, row["provider"], row["account"], seen, warned=silent)
    return news


async def _keep(connection: Connection, provider: str, account: str, seen: Rhythm, *, warned: bool) -> None:
    await connection.execute(
        """
        UPDATE rhythms SET spans = $3, weeks = $4, hour = $5, in_hour = $6, whole = $7, looked_at = $8,
                           last_event_at = $9, warned = $10
        WHERE provider = $1 AND account = $2
        """,
        provider,
        account,
        list(seen.spans),
        list(seen.weeks),
        seen.hour,
        seen.in_hour,
        seen.whole,
        seen.looked_at,
        seen.last_event_at,
        warned,
    )


def _rhythm(row: asyncpg.Record) -> Rhythm:
    return Rhythm(
        row["spans"],
        row["weeks"],
        row["hour"],
        row["in_hour"],
        row["whole"],
        row["looked_at"],
        row["last_event_at"],
    )
