"""How Alembic reaches the database: the URL is handed over by ``shared.store.migrating``, never read from a file."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.store.schema import metadata


# Two `penstock migrate` at the same time: the second waits for the first, then finds nothing to do.
_LOCK = 7_365_746_301


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        context.run_migrations()


async def _connect() -> None:
    given = context.config.attributes
    engine = create_async_engine(given["url"], poolclass=NullPool, connect_args=given["connect_args"])
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_connect())
