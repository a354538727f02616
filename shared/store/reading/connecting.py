"""Connections for reading: none is kept open between commands, none can write."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import asyncpg
from sqlalchemy import Select
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import SettingsError, StoreAway
from shared.settings import without_password
from shared.store.connection import CONNECT_SECONDS
from shared.store.postgres import (
    AWAY,
    SQLALCHEMY_URL,
    STATEMENT_SECONDS,
    Connection,
    away,
    connect_args,
)


T = TypeVar("T")

NO_TABLES = "the database has no tables yet: run `penstock migrate`"
NOT_PERMITTED = (
    "this user of the database may not do that: set PENSTOCK_DATABASE_URL to the owner's, as for `penstock migrate`"
)

_SHOWN = "penstock_shown_url"

BATCH = 1000
"""Rows held in memory at once, however many a query has."""


def reading_engine(url: str, *, name: str = "reading") -> AsyncEngine:
    """An engine whose transactions are read-only; it connects when first used. Dispose of it when done.

    Raises SettingsError for what is no URL.
    """
    return create_async_engine(
        SQLALCHEMY_URL,
        poolclass=NullPool,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            **connect_args(url, name=name, default_transaction_read_only="on", jit="off"),
        },
        # Said with each transaction: pgbouncer hands on no setting of the session.
        execution_options={"postgresql_readonly": True, _SHOWN: without_password(url)},
    )


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One connection in one read-only transaction.

    Raises StoreAway, also when the tables are not there yet; SettingsError for a user who may not read this.

    The block may print what it reads: a broken pipe is passed on, since asyncpg never raises one.
    """
    try:
        async with engine.connect() as connection:
            yield connection
    except BrokenPipeError:
        raise
    except AWAY as error:
        raise _away(engine, error) from None
    except ProgrammingError as error:
        match getattr(error.orig, "sqlstate", ""):
            case asyncpg.UndefinedTableError.sqlstate:
                raise StoreAway(NO_TABLES) from None
            case asyncpg.InsufficientPrivilegeError.sqlstate:
                raise SettingsError(NOT_PERMITTED) from None
        raise
    except DBAPIError as error:
        # SQLAlchemy wraps asyncpg's errors twice; the innermost says whether the server is away
        cause = error.orig.__cause__ if error.orig else None
        if not (error.connection_invalidated or isinstance(cause, AWAY)):
            raise
        raise _away(engine, cause or error) from None


async def driver_of(connection: AsyncConnection) -> Connection:
    """The same connection, for what asks asyncpg itself."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return cast("Connection", driver)


async def in_batches(
    connection: AsyncConnection, statement: Select[Any], shape: Callable[..., T]
) -> AsyncIterator[Sequence[T]]:
    """The rows of a query by a server-side cursor, ``shape`` called with each one's columns, ``BATCH`` at a time."""
    result = await connection.stream(statement, execution_options={"yield_per": BATCH})
    async for rows in result.partitions():
        yield [shape(*row) for row in rows]


def _away(engine: AsyncEngine, error: BaseException) -> StoreAway:
    return away(engine.sync_engine.get_execution_options()[_SHOWN], error)
