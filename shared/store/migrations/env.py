"""How Alembic reaches the database: the URL is handed over by ``shared.store.migrating``, never read from a file."""

import asyncio
import time
from typing import Final

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import StoreAway
from shared.store.schema import metadata


# Two `penstock migrate` at the same time: the second waits for the first, then finds nothing to do.
_LOCK = 7_365_746_301

LOCK_SECONDS: Final = 2
"""So long one attempt waits for a table that somebody uses. Whoever comes after waits behind it: ingress too."""
_PAUSE_SECONDS: Final = 1.0
"""Between two attempts: what queued up behind the first goes through."""
_HOLDER = """
    SELECT pid, application_name, extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    ORDER BY xact_start LIMIT 1
"""


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        context.run_migrations()


async def _connect() -> None:
    given = context.config.attributes
    engine = create_async_engine(given["url"], poolclass=NullPool, connect_args=given["connect_args"])
    patient_until = time.monotonic() + given["patience_seconds"]
    try:
        while True:
            async with engine.connect() as connection:
                try:
                    await connection.run_sync(_run)
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", "") != asyncpg.LockNotAvailableError.sqlstate:
                        raise
                    await connection.rollback()
                    if time.monotonic() >= patient_until:
                        raise StoreAway(await _who_holds(connection)) from None
                else:
                    return
            await asyncio.sleep(_PAUSE_SECONDS)
    finally:
        await engine.dispose()


async def _who_holds(connection: AsyncConnection) -> str:
    """The sentence, with the transaction that has been open longest: it mostly is the one."""
    found = (await connection.execute(text(_HOLDER))).one_or_none()
    holder = (
        f": process {found.pid} of Postgres ({found.application_name or 'without a name'}) has had a transaction open"
        f" for {found.seconds} s"
        if found
        else ""
    )
    return (
        "nothing was migrated: a table is in use that a migration has to change"
        f"{holder}. Wait for it or end it (such as a pg_dump), and run `penstock migrate` again"
    )


asyncio.run(_connect())
