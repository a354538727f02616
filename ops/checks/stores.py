"""Checks of the stores: whether each answers, which version it is, and whether it keeps what it is given."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError
from uuid_utils.compat import uuid7

from ops.checks.finding import Finding, advice, fix, ok
from shared.blobs import BlobStore
from shared.database_url import goes_through_pgbouncer
from shared.errors import PenstockError, SettingsError, StoreAway, StoreUnfit
from shared.redis_clients import open_redis, replicas_to_hold
from shared.sealing import Keys
from shared.settings import Settings, without_password
from shared.store.migrating import newest
from shared.store.postgres import AWAY, connect_once
from shared.store.reading.connecting import NO_TABLES


if TYPE_CHECKING:
    from uuid import UUID


_REDIS_SECONDS = 5.0
_PROBE = b"penstock check"
_PLANS = "SELECT current_setting('jit'), current_setting('enable_seqscan')"

_DEFAULTS = "SELECT name, setting FROM pg_settings WHERE name = ANY($1)"
_BITING: Final[Mapping[str, tuple[str, Callable[[str, str], Finding], str]]] = {
    "default_transaction_read_only": (
        "off",
        fix,
        "nothing can be kept; name the primary, or ALTER ROLE or ALTER DATABASE ... RESET it",
    ),
    "transaction_timeout": ("0", advice, "a long backup is ended halfway; set it to 0 for this role"),
    "idle_session_timeout": ("0", advice, "idle connections are ended and made anew; set it to 0 for this role"),
    "temp_file_limit": ("-1", advice, "a large sort may fail; set it to -1 for this role"),
}
"""Name -> its harmless value, how bad another one is, and what to do. The others a connection sets for itself."""

_APPENDFSYNC = {
    "always": "a write is on disk when Redis answers: spooled events survive a crash of the machine",
    "everysec": "a crash of the machine can lose the last second: spooled events are as safe as that",
    "no": "the system decides when writes reach the disk: a crash of the machine can lose half a minute of them",
}
"""What appendfsync means: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/"""


async def check_postgres(settings: Settings) -> list[Finding]:
    """Whether it answers, its version, and whether the schema is this version's."""
    if settings.database_url is None:
        return [fix("Postgres", "no database is known: set PENSTOCK_DATABASE_URL, or start `penstock up` here")]
    url = settings.database_url.get_secret_value()
    try:
        connection = await connect_once(url)
    except (StoreUnfit, SettingsError) as error:
        return [fix("Postgres", f"{error}")]
    except StoreAway as error:
        return [fix("Postgres", f"{error}; start it, or mend PENSTOCK_DATABASE_URL")]
    try:
        version = await connection.fetchval("SHOW server_version")
        try:
            revision = await connection.fetchval("SELECT version_num FROM alembic_version")
        except asyncpg.UndefinedTableError:
            revision = None
        planned = tuple(await connection.fetchrow(_PLANS) or ())
        defaults = {row["name"]: row["setting"] for row in await connection.fetch(_DEFAULTS, list(_BITING))}
    except AWAY as error:
        return [fix("Postgres", f"{without_password(url)} broke off: {error}")]
    finally:
        await connection.close()
    server = ok("Postgres", f"version {version} at {without_password(url)}")
    return [server, _schema(revision), *_pgbouncer(url, planned), *_biting(defaults)]


def _biting(found: Mapping[str, str]) -> Iterator[Finding]:
    """Settings of the server, the database or the role that no connection of ours sets for itself."""
    for name, (harmless, level, sentence) in _BITING.items():
        if found.get(name, harmless) != harmless:
            yield level("Postgres settings", f"{name} is {found[name]}: {sentence}")


def _pgbouncer(url: str, planned: tuple[str, ...]) -> Iterator[Finding]:
    """What a direct connection brings along and one through pgbouncer has to have from its role."""
    if not goes_through_pgbouncer(url):
        return
    if planned == ("off", "off"):
        yield ok("pgbouncer", "statements are planned as on a direct connection")
    else:
        yield advice(
            "pgbouncer",
            "single statements are planned with the server's settings: give the role of the URL its own, by"
            " ALTER ROLE ... SET jit = off and ALTER ROLE ... SET enable_seqscan = off",
        )


def _schema(revision: str | None) -> Finding:
    if revision == newest():
        return ok("schema", f"revision {revision}, the newest")
    if revision is None:
        return fix("schema", NO_TABLES)
    return fix("schema", f"revision {revision}, this version needs {newest()}: run `penstock migrate`")


async def check_redis(settings: Settings) -> list[Finding]:
    """Whether it answers, its version, that it drops no keys, and what its persistence setting means."""
    if settings.redis_url is None:
        return [fix("Redis", "no Redis is known: set PENSTOCK_REDIS_URL, or start `penstock up` here")]
    url = settings.redis_url.get_secret_value()
    shown = without_password(url)
    try:
        client = open_redis(url, seconds=_REDIS_SECONDS, decode=True)
    except SettingsError as error:
        return [fix("Redis", f"{error}")]
    try:
        info = await client.info()
        appendfsync = await _appendfsync(client)
    except (RedisError, OSError) as error:
        reason = str(error) or type(error).__name__
        return [fix("Redis", f"it does not answer at {shown}: {reason}; start it, or mend PENSTOCK_REDIS_URL")]
    finally:
        await client.aclose()
    return [
        ok("Redis", f"version {info.get('valkey_version') or info.get('redis_version')} at {shown}"),
        _eviction(info),
        _persistence(info, appendfsync),
        *_replicas(url, info),
    ]


async def _appendfsync(client: Redis) -> str | None:
    """The setting; None where CONFIG is not allowed, as managed servers have it."""
    try:
        found = await client.config_get("appendfsync")
    except RedisError:
        return None
    return found.get("appendfsync")


def _eviction(info: Mapping[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        return ok("Redis memory", "maxmemory-policy noeviction: no key is ever dropped")
    return fix(
        "Redis memory",
        f"maxmemory-policy is {policy}, under which Redis may drop queues and spooled events: set it to noeviction",
    )


def _persistence(info: Mapping[str, Any], appendfsync: str | None) -> Finding:
    item = "Redis persistence"
    if not int(info.get("aof_enabled", 0)):
        return advice(
            item,
            "appendonly no: nothing is kept over a crash, so no event is spooled while Postgres is away (503 instead);"
            " set appendonly yes",
        )
    if appendfsync is None:
        return ok(item, "appendonly yes; this server does not say how often it writes to disk (appendfsync)")
    level = ok if appendfsync == "always" else advice
    return level(item, f"appendonly yes, appendfsync {appendfsync}: {_APPENDFSYNC.get(appendfsync, 'unknown')}")


def _replicas(url: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    """With Sentinel alone: whether there is a server that could take over."""
    if not replicas_to_hold(url):
        return
    connected = int(info.get("connected_slaves", 0))
    if connected:
        yield ok("Redis replicas", f"{connected} follow the primary")
    else:
        yield fix(
            "Redis replicas",
            "none follows the primary, so Sentinel has nothing to fail over to and no event is spooled while Postgres"
            " is away (503 instead): start a replica",
        )


async def check_blobs(settings: Settings) -> list[Finding]:
    """Whether an object can be written, read back and deleted."""
    event_id: UUID = uuid7()
    key = f"check/{event_id}"
    try:
        blobs = BlobStore.open(settings.blobs, Keys.parse(settings.encryption_keys))
        await blobs.put(key, _PROBE, event_id)
        try:
            intact = await blobs.read(key, event_id) == _PROBE
        finally:
            await blobs.delete(key)
    except PenstockError as error:
        return [fix("blob store", f"{error}")]
    if not intact:
        return [fix("blob store", f"{settings.blobs} gives back other bytes than it was given")]
    return [ok("blob store", f"written, read and deleted at {settings.blobs}")]
