"""Connections to Postgres: one place for their settings, so that every statement has a deadline."""

from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from shared.database_url import goes_through_pgbouncer, without_our_option
from shared.errors import StoreAway
from shared.settings import without_password
from shared.store.pooling import CLAIM_PLANS, PLANS, InIndexOrder, Planned, Pooled


# asyncpg-stubs knows these as generics; asyncpg itself does not, so at run time they are only names.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut while it was given back
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What asyncpg raises when the server is away, refuses, is read-only or going down (never for a wrong statement)."""

ABOUT_DATA = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
)
"""What is raised about a row, as against what Postgres says about itself."""


def is_about_data(error: Exception) -> bool:
    """Whether it is about what was to be written, or the code that writes it; not about Postgres or the statement."""
    return isinstance(error, ABOUT_DATA) or not isinstance(error, (StoreAway, asyncpg.PostgresError, *AWAY))


CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30.0


def for_asyncpg(url: str) -> str:
    """The URL as asyncpg wants it, whatever SQLAlchemy driver it names."""
    return urlunsplit(urlsplit(without_our_option(url))._replace(scheme="postgresql"))


def for_sqlalchemy(url: str) -> str:
    """The URL as SQLAlchemy wants it, with the asyncpg driver named. ``connect_args`` belong to it."""
    return urlunsplit(urlsplit(without_our_option(url))._replace(scheme="postgresql+asyncpg"))


def connect_args(url: str, **server_settings: str) -> dict[str, Any]:
    """What SQLAlchemy is to connect with."""
    if not goes_through_pgbouncer(url):
        return {"server_settings": server_settings}
    return {
        "server_settings": {name: text for name, text in server_settings.items() if name == "application_name"},
        # Nothing outlives its transaction: a statement without a name is prepared and run in one.
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
    }


async def _as_it_is(_: Connection) -> None:
    """What asyncpg does to a connection that goes back to its pool, less its query: nobody sets anything or listens.

    A transaction that is open is rolled back all the same. The query was a round trip after each transaction.
    """


async def open_pool(
    url: str,
    *,
    name: str,
    size: int,
    statement_seconds: float = STATEMENT_SECONDS,
    in_index_order: bool = False,
) -> Pool:
    """A pool whose connections appear in ``pg_stat_activity`` as ``penstock <name>``. Raises StoreAway.

    ``in_index_order`` is for looks and claims: what is due comes and goes faster than statistics, so to the planner it
    is often one row, which it would find by any index and sort.
    """
    settings = {"application_name": f"penstock {name}"}
    pooled: dict[str, Any] = {}
    if goes_through_pgbouncer(url):
        pooled = {"connection_class": InIndexOrder if in_index_order else Planned, "statement_cache_size": 0}
    else:
        settings |= CLAIM_PLANS if in_index_order else PLANS
    try:
        return await asyncpg.create_pool(
            for_asyncpg(url),
            min_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=statement_seconds,
            max_inactive_connection_lifetime=300,
            reset=_as_it_is,
            server_settings=settings,
            **pooled,
        )
    except AWAY as error:
        raise _away(url, error) from None


async def connect_once(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A single connection, for a command or a check. Raises StoreAway."""
    try:
        if not goes_through_pgbouncer(url):
            return await asyncpg.connect(
                for_asyncpg(url),
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                # pgbouncer refuses what it knows nothing of: better at once than by a statement that it mixed up.
                server_settings={"jit": "off"},
            )
        connection = await asyncpg.connect(
            for_asyncpg(url),
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            statement_cache_size=0,
            connection_class=Pooled,
        )
    except AWAY as error:
        raise _away(url, error) from None
    connection.url = url
    return connection


def _away(url: str, error: Exception) -> StoreAway:
    reason = str(error) or type(error).__name__
    if "startup parameter" in reason:
        reason += "; this looks like pgbouncer: add ?pgbouncer=true to PENSTOCK_DATABASE_URL"
    return StoreAway(f"Postgres does not answer at {without_password(url)}: {reason}")
