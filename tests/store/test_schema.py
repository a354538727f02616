"""The migrations and the tables that the code knows say the same."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from shared.store.postgres import SQLALCHEMY_URL, connect_args
from shared.store.schema import metadata


pytestmark = pytest.mark.anyio


async def test_a_migrated_database_has_exactly_the_tables_that_the_code_knows(database_url: str) -> None:
    """Tables, columns with types and defaults, indexes: nothing is missing on either side."""

    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    engine = create_async_engine(SQLALCHEMY_URL, connect_args=connect_args(database_url))
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()

    assert [] == found


async def test_partial_indexes_cover_the_same_rows(database_url: str) -> None:
    """Their conditions, which the comparison of tables leaves out."""
    engine = create_async_engine(SQLALCHEMY_URL, connect_args=connect_args(database_url))
    async with engine.connect() as connection:
        migrated = await connection.run_sync(_conditions)
        await connection.run_sync(lambda sync: sync.exec_driver_sql("CREATE SCHEMA known"))
        translated = await connection.execution_options(schema_translate_map={None: "known"})
        await translated.run_sync(metadata.create_all)
        known = await connection.run_sync(lambda sync: _conditions(sync, "known"))
    await engine.dispose()

    assert known == migrated


def _conditions(connection: Connection, schema: str = "public") -> dict[str, str]:
    """Each index, each CHECK constraint and each storage option as Postgres itself writes it down."""
    rows = connection.exec_driver_sql(
        """
        SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %(schema)s AND tablename <> 'alembic_version'
        UNION ALL
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = to_regnamespace(%(schema)s) AND contype = 'c'
        UNION ALL
        SELECT relname || ' options', array_to_string(reloptions, ', ') FROM pg_class
        WHERE relnamespace = to_regnamespace(%(schema)s) AND reloptions IS NOT NULL
        """.replace("%(schema)s", f"'{schema}'")
    )
    return {name: definition.replace(f"{schema}.", "") for name, definition in rows}
