"""Connections to Postgres: one place for their settings, so that every statement has a deadline."""

from functools import partial
from typing import Any, TypeAlias

import asyncpg

from shared.database_url import goes_through_pgbouncer
from shared.errors import SettingsError, StoreAway, StoreUnfit
from shared.settings import without_password
from shared.store.connection import CONNECT_SECONDS, Unfit, connect
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
    asyncpg.InvalidAuthorizationSpecificationError,
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

STATEMENT_SECONDS = 30.0
JIT_OFF = {"jit": "off"}


SQLALCHEMY_URL = "postgresql+asyncpg://"
"""The driver and no more: ``connect_args`` say where and how."""


def is_about_data(error: Exception) -> bool:
    """Whether it is about what was to be written, or the code that writes it; not about Postgres or the statement."""
    return isinstance(error, ABOUT_DATA) or not isinstance(error, (StoreAway, asyncpg.PostgresError, *AWAY))


def connect_args(url: str, *, name: str = "", **server_settings: str) -> dict[str, Any]:
    """What SQLAlchemy is to connect with, beside SQLALCHEMY_URL. Raises SettingsError for what is no URL."""
    if not _pooled(url):
        return {"async_creator_fn": partial(connect, url, name=name), "server_settings": server_settings}
    return {
        "async_creator_fn": partial(connect, url, name=name),
        # Nothing outlives its transaction: a statement without a name is prepared and run in one.
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,
    }


def _pooled(url: str) -> bool:
    """Whether the way leads through pgbouncer. Raises SettingsError for what is no URL."""
    try:
        return goes_through_pgbouncer(url)
    except ValueError as error:
        raise SettingsError(f"PENSTOCK_DATABASE_URL: {error}") from None


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
    pooled: dict[str, Any] = {}
    if _pooled(url):
        pooled = {"connection_class": InIndexOrder if in_index_order else Planned, "statement_cache_size": 0}
    else:
        pooled = {"server_settings": CLAIM_PLANS if in_index_order else PLANS}
    try:
        return await asyncpg.create_pool(
            connect=partial(connect, url, name=name),
            min_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=statement_seconds,
            max_inactive_connection_lifetime=300,
            reset=_as_it_is,
            **pooled,
        )
    except AWAY as error:
        raise away(without_password(url), error) from None


async def connect_once(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A single connection, for a command or a check. Raises StoreAway."""
    pooled = _pooled(url)
    try:
        connection: asyncpg.Connection[asyncpg.Record] = await connect(
            url,
            command_timeout=STATEMENT_SECONDS,
            # pgbouncer refuses what it knows nothing of: better at once than by a statement that it mixed up.
            **({"statement_cache_size": 0, "connection_class": Pooled} if pooled else {"server_settings": JIT_OFF}),
        )
    except AWAY as error:
        raise away(without_password(url), error) from None
    if pooled:
        connection.url = url  # type: ignore[attr-defined]  # it is a Pooled
    return connection


def away(shown: str, error: BaseException) -> StoreAway:
    """What is raised for one of AWAY; ``shown`` is the URL without its password."""
    reason = str(error) or type(error).__name__
    if isinstance(error, Unfit):
        return StoreUnfit(f"Postgres at {shown} cannot be used: {reason}")
    if "startup parameter" in reason:
        reason += "; this looks like pgbouncer: add ?pgbouncer=true to PENSTOCK_DATABASE_URL"
    return StoreAway(f"Postgres does not answer at {shown}: {reason}")
