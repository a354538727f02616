"""Every client of Redis but Celery's (``shared.broker``) is made here, so that all of them find the same server.

With Sentinel a client asks for the primary whenever it connects. After a failover its old connections fail, by the old
primary's death or by its READONLY, and the next attempt finds the new one; nothing has to be restarted.
"""

from typing import Any, Final

import redis
import redis.sentinel
from redis.asyncio import Redis
from redis.asyncio import sentinel as async_sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.retry import Retry as BlockingRetry

from shared.errors import SettingsError
from shared.redis_url import Sentinels, sentinels_of


SENTINEL_SECONDS: Final = 0.5
"""How long a blocking client waits for one sentinel before it asks the next."""
REPLICAS_TO_HOLD: Final = 1
"""How many replicas must hold a spooled event before it is acknowledged, where a failover may come."""


class _AtPrimary(Redis):
    """A client that also closes its connections to the sentinels."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's signature
        await super().aclose(close_connection_pool)
        await self.connection_pool.sentinel_manager.aclose()  # type: ignore[attr-defined]  # of its sentinels' pool


def open_redis(url: str, *, seconds: float, retries: int | None = None, decode: bool = False) -> Redis:
    """A client that connects when first used; each answer and each connection has ``seconds``.

    ``retries``: how often a command is tried again at once on a new connection (None: as the library does). Raises
    SettingsError for what is no URL.
    """
    try:
        sentinels = sentinels_of(url)
        if not sentinels:
            timeouts = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
            again = {} if retries is None else {"retry": Retry(NoBackoff(), retries)}
            return Redis.from_url(url, decode_responses=decode, **timeouts, **again)  # type: ignore[arg-type]
    except ValueError as error:
        raise refused(error) from None
    # All of them, and the primary, within the time of one connection.
    asked = seconds / (len(sentinels.hosts) + 1)
    manager = async_sentinel.Sentinel(  # type: ignore[no-untyped-call]
        sentinels.hosts,
        sentinel_kwargs=_signed_in(sentinels, asked) | {"retry": Retry(NoBackoff(), 0)},
        **_of_primary(sentinels, seconds),
        decode_responses=decode,
        retry=Retry(NoBackoff(), 1 if retries is None else retries),
    )
    client: Redis = manager.master_for(sentinels.service, redis_class=_AtPrimary)
    return client


def connect_redis(url: str, *, seconds: float) -> redis.Redis:
    """A blocking client, for a command or a check. Raises SettingsError for what is no URL."""
    try:
        sentinels = sentinels_of(url)
        if not sentinels:
            return redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
    except ValueError as error:
        raise refused(error) from None
    manager = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
        sentinels.hosts, sentinel_kwargs=of_sentinels(sentinels), **_of_primary(sentinels, seconds)
    )
    client: redis.Redis = manager.master_for(sentinels.service)  # type: ignore[no-untyped-call]
    return client


def replicas_to_hold(url: str) -> int:
    """How many replicas must hold what may not be lost with the primary."""
    return REPLICAS_TO_HOLD if sentinels_of(url) else 0


def of_sentinels(sentinels: Sentinels) -> dict[str, Any]:
    """What a blocking client's connections to the sentinels are made with."""
    return _signed_in(sentinels, SENTINEL_SECONDS) | {"retry": BlockingRetry(NoBackoff(), 0)}


def _signed_in(sentinels: Sentinels, seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "username": sentinels.sentinel_username,
        "password": sentinels.sentinel_password,
        **_tls(sentinels),
    }


def _of_primary(sentinels: Sentinels, seconds: float) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "db": sentinels.db,
        "username": sentinels.username,
        "password": sentinels.password,
        **_tls(sentinels),
    }


def _tls(sentinels: Sentinels) -> dict[str, Any]:
    return {} if sentinels.tls is None else {"ssl": True, **sentinels.tls}


def refused(error: ValueError) -> SettingsError:
    """What is wrong with the URL, as the setting's error; neither ours nor the library's sentence holds a password."""
    return SettingsError(f"PENSTOCK_REDIS_URL: {error}")
