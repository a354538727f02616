"""The stores as commands reach them: those that the settings name, or those of the running installation."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from ops.installation import find
from shared.errors import SettingsError, StoreAway
from shared.redis_clients import open_redis
from shared.sealing import Keys
from shared.settings import Settings, without_password
from shared.store.keys import look
from shared.store.postgres import AWAY, connect_once
from shared.store.reading.connecting import NO_TABLES, NOT_PERMITTED, reading_engine


if TYPE_CHECKING:
    from shared.store.postgres import Connection

_REDIS_SECONDS = 2.0


def found() -> Settings:
    """The settings, with the stores of the running installation where none are set. Raises SettingsError."""
    return find(Settings.read())


def database_url(settings: Settings) -> str:
    """The database's URL. Raises SettingsError when neither set nor found."""
    if settings.database_url is None:
        raise SettingsError(
            "no database is known: set PENSTOCK_DATABASE_URL, or run this in the folder of a running `penstock up`"
            " (or with its PENSTOCK_DATA_DIR)"
        )
    return settings.database_url.get_secret_value()


@asynccontextmanager
async def reading_store(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine that cannot write. Raises SettingsError."""
    engine = reading_engine(database_url(settings), name="cli")
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def writing_store(settings: Settings) -> AsyncIterator["Connection"]:
    """A connection that can write. Raises SettingsError; StoreAway also when it breaks on the way."""
    url = database_url(settings)
    connection = await connect_once(url)
    try:
        yield connection
    except BrokenPipeError:
        raise
    except asyncpg.UndefinedTableError:
        raise StoreAway(NO_TABLES) from None
    except asyncpg.InsufficientPrivilegeError:
        raise SettingsError(NOT_PERMITTED) from None
    except AWAY as error:
        reason = str(error) or type(error).__name__
        raise StoreAway(f"Postgres does not answer any more at {without_password(url)}: {reason}") from None
    finally:
        connection.terminate() if connection.is_closed() else await connection.close()


async def opening_keys(settings: Settings) -> Callable[[], Keys]:
    """The keys to open what is sealed, asked for when they are needed. Raises StoreAway; calling: SettingsError."""
    if not settings.encryption_keys:
        return lambda: Keys.parse(settings.encryption_keys)
    keys = Keys.parse(settings.encryption_keys)
    async with writing_store(settings) as connection:
        await look(connection, keys)
    return lambda: keys


@asynccontextmanager
async def queue_store(settings: Settings) -> AsyncIterator[Redis | None]:
    """A Redis client, which connects when first used; None where no Redis is known. Raises SettingsError."""
    if settings.redis_url is None:
        yield None
        return
    client = open_redis(settings.redis_url.get_secret_value(), seconds=_REDIS_SECONDS)
    try:
        yield client
    finally:
        await client.aclose()
