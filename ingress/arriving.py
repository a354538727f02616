"""Tells through Redis, every few seconds, how fast deliveries were acknowledged and which keys proved them."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from shared import arrivals
from shared.redis_clients import open_redis


if TYPE_CHECKING:
    from ingress.metrics import IngressMetrics
    from ingress.routes import Routes
    from shared.sealing import Keys

TELL_SECONDS: Final = 10.0
_REDIS_SECONDS: Final = 2.0


async def tell_of_arrivals(redis_url: str, metrics: "IngressMetrics", routes: "Routes", keys: "Keys") -> None:
    """Tell until cancelled, and once more then; while Redis does not answer, it is kept for the next time."""
    log = structlog.get_logger("penstock.ingress")
    untold: set[arrivals.UsedKey] = set()
    redis = open_redis(redis_url, seconds=_REDIS_SECONDS)

    async def tell() -> None:
        acknowledged = metrics.take_acknowledged()
        untold.update(routes.take_used_keys())
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await arrivals.tell(redis, acknowledged, untold, keys)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            metrics.add_acknowledged(acknowledged)
            log.debug("nothing could be told of arrivals", reason=str(error))
        else:
            untold.clear()

    async with redis:
        try:
            while True:
                await asyncio.sleep(TELL_SECONDS)
                await tell()
        finally:
            metrics.flush()
            with contextlib.suppress(RedisError, OSError):
                await tell()
