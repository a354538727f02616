"""Counts per provider: from the ledger of tallies, so that they cost the same however many events there are."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import BigInteger, Float, Text, cast, column, func, select, values
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.queue import queue_of
from shared.store.reading.connecting import reading
from shared.store.reading.shapes import ProviderStats
from shared.store.schema import EVENT_STATES, FETCH_STATES, events, tallies


_UNFINISHED = ("received", "processing", "waiting")
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
        ages = {row[0]: row[1] for row in await connection.execute(_oldest(providers))}
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


def _oldest(providers: Sequence[str]) -> Any:
    """The age in seconds of each provider's oldest unfinished event: one step into a partial index each."""
    names = values(column("provider", Text), name="names").data([(provider,) for provider in providers])
    age = (
        select(func.extract("epoch", func.clock_timestamp() - func.min(events.c.received_at)))
        .where(events.c.provider == names.c.provider, events.c.state.in_(_UNFINISHED))
        .scalar_subquery()
    )
    return select(names.c.provider, cast(age, Float))


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
