"""Connections for reading: none is kept open between commands, none can write."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import asyncpg
from sqlalchemy import Select
from sqlalchemy.exc import ArgumentError, DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import SettingsError, StoreAway
from shared.settings import without_password
from shared.store.postgres import AWAY, CONNECT_SECONDS, STATEMENT_SECONDS, Connection, connect_args, for_sqlalchemy


T = TypeVar("T")

NO_TABLES = "the database has no tables yet: run `penstock migrate`"
NOT_PERMITTED = (
    "this user of the database may not do that: set PENSTOCK_DATABASE_URL to the owner's, as for `penstock migrate`"
)

BATCH = 1000
"""Rows held in memory at once, however many a query has."""


def reading_engine(url: str, *, name: str = "reading") -> AsyncEngine:
    """An engine whose transactions are read-only; it connects when first used. Dispose of it when done.

    Raises SettingsError for what is no URL.
    """
    settings = {"application_name": f"penstock {name}", "default_transaction_read_only": "on", "jit": "off"}
    try:
        return create_async_engine(
            for_sqlalchemy(url),
            poolclass=NullPool,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": STATEMENT_SECONDS,
                **connect_args(url, **settings),
            },
            # Said with each transaction: pgbouncer hands on no setting of the session.
            execution_options={"postgresql_readonly": True},
        )
    except (ArgumentError, ValueError):
        raise SettingsError("PENSTOCK_DATABASE_URL: write postgresql://user:password@host:port/database") from None


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
    except asyncpg.UndefinedTableError:  # of what asks asyncpg itself
        raise StoreAway(NO_TABLES) from None
    except asyncpg.InsufficientPrivilegeError:
        raise SettingsError(NOT_PERMITTED) from None
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
    url = without_password(engine.url.render_as_string(hide_password=True).replace("postgresql+asyncpg", "postgresql"))
    return StoreAway(f"Postgres does not answer at {url}: {str(error) or type(error).__name__}")
