"""Counts per provider: from the ledger of tallies, so that they cost the same however many events there are."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import BigInteger, cast, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.queue import queue_of
from shared.store.reading.connecting import driver_of, reading
from shared.store.reading.shapes import ProviderStats
from shared.store.schema import EVENT_STATES, FETCH_STATES, tallies
from shared.store.stuck import OLDEST_DUE


_REDIS_SECONDS = 2.0

_SUMS = select(
    tallies.c.provider, tallies.c.what, tallies.c.state, cast(func.sum(tallies.c.delta), BigInteger)
).group_by(tallies.c.provider, tallies.c.what, tallies.c.state)


async def stats(engine: AsyncEngine, redis: Redis | None, providers: Sequence[str]) -> list[ProviderStats]:
    """One dictionary a provider, in the order given. Cheap enough for every second. Raises StoreAway.

    ``queue_length`` is None where Redis is away; the rest is from Postgres.
    """
    async with reading(engine) as connection:
        sums = {(row[0], row[1], row[2]): row[3] for row in await connection.execute(_SUMS)}
        driver = await driver_of(connection)
        ages = {row["provider"]: row["seconds"] for row in await driver.fetch(OLDEST_DUE, providers)}
    lengths = await _queue_lengths(redis, providers)
    found: list[ProviderStats] = []
    for provider in providers:
        calls = sums.get((provider, "calls", ""), 0)
        counts = {state: sums.get((provider, "event", state), 0) for state in EVENT_STATES}
        found.append(
            {
                "provider": provider,
                "events": counts,
                "fetches": {state: sums.get((provider, "fetch", state), 0) for state in FETCH_STATES},
                "oldest_due_seconds": ages[provider],
                "queue_length": lengths.get(provider),
                "api_calls": calls,
                "events_per_call": round(counts["done"] / calls, 3) if calls else None,
            }
        )
    return found


async def _queue_lengths(redis: Redis | None, providers: Sequence[str]) -> dict[str, int]:
    if redis is None:
        return {}
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            pipeline = redis.pipeline(transaction=False)
            for provider in providers:
                pipeline.llen(queue_of(provider))
            return dict(zip(providers, await pipeline.execute(), strict=True))
    except (RedisError, OSError):  # TimeoutError is an OSError
        return {}
