"""Redis's append-only file: what was deleted lies in it until Redis writes it anew."""

import asyncio
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError


SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.05
_REWRITING: Final = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")


async def rewrite(redis: Redis, seconds: float = SECONDS) -> str | None:
    """Have it written anew, without what was deleted, and wait for it; why that could not be done.

    A Redis that keeps no such file has nothing to forget.
    """
    try:
        info = await redis.info("persistence")
        if not info.get("aof_enabled"):
            return None
        async with asyncio.timeout(seconds):
            # One that runs began before: what was deleted since may be in it.
            await _idle(redis)
            await redis.bgrewriteaof()
            await _idle(redis)
        done = (await redis.info("persistence")).get("aof_last_bgrewrite_status")
    except TimeoutError:
        return f"it was not written anew within {seconds:g} s"
    except ResponseError as error:
        return f"Redis does not let this user: {error}"
    except (RedisError, OSError) as error:
        return f"Redis does not answer: {error}"
    return None if done == "ok" else "Redis could not write it anew; its log says why"


async def _idle(redis: Redis) -> None:
    while True:
        info = await redis.info("persistence")
        if not any(info.get(name) for name in _REWRITING):
            return
        await asyncio.sleep(_LOOK_SECONDS)
