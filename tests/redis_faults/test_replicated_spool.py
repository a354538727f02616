"""The spool in a Redis that Sentinel may fail over at any moment: what is acknowledged a replica holds too."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from ops.chaos.replicated_redis import ReplicatedRedis
from ops.embedded.redis import Redis
from redis_faults.test_waitaof import event
from shared.errors import StoreAway
from shared.redis_clients import open_redis, replicas_to_hold
from shared.spool import Spool, SpoolRefused


T = TypeVar("T")

pytestmark = pytest.mark.anyio

SECONDS = 5.0


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, once the sentinels agree and the other replica follows the new primary."""
    for _ in range(100):
        with suppress(StoreAway):
            return await ask()
        await asyncio.sleep(0.2)
    return await ask()


async def test_what_was_spooled_outlives_the_primary_that_took_it(tmp_path: Path) -> None:
    """The same client reads it from the new primary, in order, without being made anew."""
    events = [event() for _ in range(50)]
    with ReplicatedRedis(tmp_path) as redis:
        async with open_redis(redis.url, seconds=SECONDS) as client:
            spool = Spool(client, replicas=replicas_to_hold(redis.url))
            await spool.append(events, SECONDS)
            await redis.another_primary(redis.kill_primary())
            kept = [entry.event for entry in await patiently(lambda: spool.read(100))]
            await patiently(lambda: spool.append([event()], SECONDS))
            length = await spool.length()
    assert events == kept
    assert 51 == length


async def test_what_no_replica_takes_is_not_acknowledged(tmp_path: Path) -> None:
    """Replicas that stand still would lack it after a failover, although the primary still counts them as its own."""
    with ReplicatedRedis(tmp_path) as redis:
        async with open_redis(redis.url, seconds=SECONDS) as client:
            spool = Spool(client, replicas=replicas_to_hold(redis.url))
            await spool.append([event()], SECONDS)
            await asyncio.to_thread(redis.freeze_replicas)
            with pytest.raises(SpoolRefused, match="no replica of Redis took the events"):
                await spool.append([event()], 1.0)


async def test_a_primary_without_any_replica_takes_no_event(tmp_path: Path) -> None:
    """It is refused before anything is written: an embedded Redis has none."""
    with Redis(tmp_path) as server:
        async with open_redis(server.url, seconds=SECONDS) as client:
            spool = Spool(client, replicas=1)
            with pytest.raises(SpoolRefused, match="no replica follows"):
                await spool.append([event()], SECONDS)
            assert 0 == await spool.length()
