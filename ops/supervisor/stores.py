"""The stores of an installation: those that are set, the embedded ones where none is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from ops.embedded.server import EmbeddedServer
from shared.errors import SettingsError, StoreAway
from shared.redis_clients import connect_redis
from shared.settings import Settings, without_password


OLDEST_REDIS = (6, 2)
"""kombu 5.7 asks for ``ZRANGE ... BYSCORE REV``, which came with 6.2."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the stores answer, and the servers among them that are ours."""

    database_url: str
    redis_url: str
    servers: tuple[EmbeddedServer, ...]


@contextmanager
def opened_stores(settings: Settings) -> Iterator[Stores]:
    """Start what is not set, check what is, and stop what was started. Raises SettingsError, StoreAway."""
    postgres = None if settings.database_url else Postgres(settings.data)
    fast = None if settings.redis_url else Redis(settings.data)
    servers = tuple(server for server in (postgres, fast) if server)
    try:
        for server in servers:
            server.start()
        redis_url = settings.redis_url.get_secret_value() if settings.redis_url else fast.url if fast else ""
        database_url = settings.database_url.get_secret_value() if settings.database_url else ""
        check_redis(redis_url)
        yield Stores(postgres.url if postgres else database_url, redis_url, servers)
    finally:
        for server in servers:  # both are asked first, so that they end side by side
            if server.process:
                server.process.stop()
        for server in servers:
            server.stop()


def check_redis(url: str) -> None:
    """Refuse a Redis that would lose what is queued. Raises SettingsError, StoreAway."""
    shown = without_password(url)
    try:
        with connect_redis(url, seconds=5) as client:
            told = client.info()
    except redis.RedisError as error:
        raise StoreAway(f"Redis does not answer at {shown}: {error}") from None
    if (policy := told.get("maxmemory_policy", "noeviction")) != "noeviction":
        raise SettingsError(
            f"PENSTOCK_REDIS_URL: the Redis at {shown} may drop queued work when memory is short (maxmemory-policy"
            f" {policy}): set its maxmemory-policy to noeviction"
        )
    version = str(told.get("redis_version", ""))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_REDIS:
        raise SettingsError(f"PENSTOCK_REDIS_URL: the Redis at {shown} is {version}; 6.2 or later is needed")
