"""What `penstock check --production` adds: whether this deployment could lose data, or stands open."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import asyncpg
from redis.exceptions import RedisError

from ops.checks.finding import Finding, advice, fix, ok
from shared.configuration import Configuration
from shared.errors import SettingsError, StoreAway
from shared.redis_clients import open_redis
from shared.settings import Settings
from shared.store.postgres import AWAY, connect_once


CLOCKS_APART_SECONDS: Final = 5.0
"""Beyond it signatures with a time in them, certificates and what people read in logs go wrong."""

_REDIS_SECONDS: Final = 5.0

_KEEPS: Final[dict[str, Callable[[str], bool]]] = {
    "fsync": "on".__eq__,
    "full_page_writes": "on".__eq__,
    "synchronous_commit": {"on", "local", "remote_write", "remote_apply"}.__contains__,
}
"""Settings of Postgres without which a commit may be lost: https://www.postgresql.org/docs/current/runtime-config-wal.html"""


async def check_production(given: Settings, completed: Settings, configuration: Configuration | None) -> list[Finding]:
    """The findings. ``given`` is what the environment says, ``completed`` what a running `penstock up` adds to it."""
    findings = [*_stores(given), _keys(given), _flower(given), _console(given, configuration)]
    if configuration:
        findings.extend(_addresses(configuration))
    findings.extend(await _postgres(completed))
    findings.extend(await _redis(completed))
    return findings


def _stores(given: Settings) -> Iterator[Finding]:
    for name, url in (("DATABASE", given.database_url), ("REDIS", given.redis_url)):
        item = f"own {'Postgres' if name == 'DATABASE' else 'Redis'}"
        if url is None:
            yield fix(
                item,
                f"PENSTOCK_{name}_URL is not set, so the embedded server is used, which nobody backs up, replicates or"
                " watches: set it to a server of your own",
            )
        else:
            yield ok(item, f"PENSTOCK_{name}_URL is set")
    if given.blob_url is None:
        yield advice(
            "own blob store",
            "PENSTOCK_BLOB_URL is not set: large bodies lie in the data directory of this one machine; every process of"
            " every machine needs to reach them",
        )


def _keys(given: Settings) -> Finding:
    if not given.encryption_keys:
        return fix(
            "own encryption key",
            "PENSTOCK_ENCRYPTION_KEYS is not set, so the key lies beside the data that it protects: set it, to what"
            " `penstock keys generate` prints, or to the key in use",
        )
    return ok("own encryption key", "PENSTOCK_ENCRYPTION_KEYS is set")


def _flower(given: Settings) -> Finding:
    if given.flower_password is None:
        return fix("flower", "PENSTOCK_FLOWER_PASSWORD is not set: each host makes up its own")
    return ok("flower", "it asks for the password that is set")


def _console(given: Settings, configuration: Configuration | None) -> Finding:
    users = configuration.console.users if configuration else ()
    if given.console_password is None and not users:
        return fix(
            "console",
            "whoever is on its machine sees everything: enter [[console.users]], or set PENSTOCK_CONSOLE_PASSWORD",
        )
    return ok("console", "it asks who is there")


def _addresses(configuration: Configuration) -> Iterator[Finding]:
    plain = [
        f"{provider} {account.name}"
        for provider, accounts in configuration.accounts.items()
        for account in accounts.values()
        if account.base_url.startswith("http://")
    ]
    plain += [f"handler {handler.name}" for handler in configuration.handlers if handler.url.startswith("http://")]
    if plain:
        yield fix("https", f"{', '.join(plain)}: keys and data cross the network unencrypted over http; use https")
    else:
        yield ok("https", "every account and handler is called over https")


async def _postgres(settings: Settings) -> list[Finding]:
    """What Postgres itself says; nothing where it does not answer, which another check tells of."""
    if settings.database_url is None:
        return []
    try:
        connection = await connect_once(settings.database_url.get_secret_value())
    except StoreAway:
        return []
    try:
        rows = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(_KEEPS))
        superuser = await connection.fetchval("SELECT usesuper FROM pg_user WHERE usename = current_user")
        asked = time.time()
        theirs = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
        answered = time.time()
    except (*AWAY, asyncpg.PostgresError):
        return []
    finally:
        await connection.close()
    return [
        *_durable({str(row["name"]): str(row["setting"]) for row in rows}),
        _clock("Postgres", theirs, asked, answered),
        *([advice("Postgres role", "it is a superuser; a role that owns its database alone is enough")] * superuser),
    ]


def _durable(found: dict[str, str]) -> Iterator[Finding]:
    unsafe = [f"{name} {found[name]}" for name, safe in _KEEPS.items() if name in found and not safe(found[name])]
    if unsafe:
        yield fix(
            "Postgres durability",
            f"{', '.join(unsafe)}: what was acknowledged can be lost in a crash; set each on",
        )
    else:
        yield ok("Postgres durability", "a commit is on disk before an event is acknowledged")


async def _redis(settings: Settings) -> list[Finding]:
    """What Redis itself says; nothing where it does not answer, which another check tells of."""
    if settings.redis_url is None:
        return []
    try:
        client = open_redis(settings.redis_url.get_secret_value(), seconds=_REDIS_SECONDS)
    except SettingsError:
        return []
    try:
        info: dict[str, Any] = await client.info()
        asked = time.time()
        seconds, micro = await client.time()
        answered = time.time()
    except (RedisError, OSError):
        return []
    finally:
        await client.aclose()
    persistent = bool(int(info.get("aof_enabled", 0)))
    return [
        *(
            []
            if persistent
            else [
                fix(
                    "Redis append-only file",
                    "appendonly no: while Postgres is away nothing can be acknowledged, and queues end with the server;"
                    " set appendonly yes",
                )
            ]
        ),
        _clock("Redis", seconds + micro / 1e6, asked, answered),
    ]


def _clock(server: str, theirs: float, asked: float, answered: float) -> Finding:
    """Compared with the middle of the time that the question took."""
    apart = theirs - (asked + answered) / 2
    item = f"clock of {server}"
    if abs(apart) > CLOCKS_APART_SECONDS:
        behind = "ahead of" if apart > 0 else "behind"
        return fix(
            item, f"it is {abs(apart):.0f} s {behind} this machine's: have both follow a time server (chrony, ntp)"
        )
    return ok(item, f"it and this machine's are {abs(apart):.1f} s apart")
