"""What a worker's look-out says while a store is away."""

import asyncio
from pathlib import Path

import pytest
import structlog
from redis.asyncio import Redis as Client

from ops.embedded.redis import Redis
from shared.budgets import Budgets
from shared.store.postgres import open_pool
from shared.watching import ConfigurationWatch
from support.conditions import HANG_SECONDS
from workers.calling import Caller
from workers.follow_up.probing import Probing
from workers.follow_up.sessions import Sessions


pytestmark = pytest.mark.anyio

AWAY_MILLISECONDS = 8000


class Counting(Probing):
    """Knows how often it looked."""

    looks = 0

    async def look(self) -> None:
        """Look once."""
        self.looks += 1
        await super().look()


async def test_a_redis_that_is_away_is_told_of_once_and_so_is_its_return(
    database_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Every worker process looks each second: without this, an hour away is thousands of lines that say the same."""
    pool = await open_pool(database_url, name="test", size=1)
    budgets, caller = Budgets(redis.url), Caller()
    probing = Counting(pool, budgets, caller, Sessions(caller, budgets), ConfigurationWatch(tmp_path / "penstock.toml"))
    async with Client.from_url(redis.url) as client:
        await client.client_pause(AWAY_MILLISECONDS)

    with structlog.testing.capture_logs() as said:
        running = asyncio.create_task(probing.run())
        async with asyncio.timeout(HANG_SECONDS):
            while not any("again" in line["event"] and line["log_level"] == "info" for line in said):  # noqa: ASYNC110 - the log is what is waited for
                await asyncio.sleep(0.05)
        looks = probing.looks
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert looks >= 3
    assert ["circuits cannot be looked at; trying again", "circuits are looked at again"] == [
        line["event"] for line in said
    ]
    assert "Redis does not answer at" in said[0]["reason"]
    await caller.close()
    await budgets.close()
    await pool.close()
