"""Bringing the database to the schema that this version of the code knows."""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from shared.errors import SettingsError
from shared.store.postgres import SQLALCHEMY_URL, connect_args, connect_once


PATIENCE_SECONDS = 60.0


def _config(url: str, patience_seconds: float = PATIENCE_SECONDS) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = SQLALCHEMY_URL
    config.attributes["patience_seconds"] = patience_seconds
    config.attributes["connect_args"] = connect_args(url, name="migrate")
    return config


def newest() -> str:
    """The revision that this version of the code knows."""
    return ScriptDirectory.from_config(_config("postgresql://")).get_current_head() or ""


def known() -> set[str]:
    """Every revision that this version of the code can bring to the newest."""
    return {script.revision for script in ScriptDirectory.from_config(_config("postgresql://")).walk_revisions()}


def current(url: str) -> str | None:
    """The revision of the database; None where it has never been migrated. Raises StoreAway."""
    return asyncio.run(_current(url))


async def _current(url: str) -> str | None:
    connection = await connect_once(url)
    try:
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()
    return revision


def upgrade(url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Apply every migration that is missing, or none.

    Raises StoreAway, also where a table was in use for longer than ``patience_seconds``; SettingsError where the role
    has nowhere to put tables.
    """
    current(url)
    config = _config(url, patience_seconds)
    try:
        command.upgrade(config, "head")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") != asyncpg.InvalidSchemaNameError.sqlstate:
            raise
        raise SettingsError(
            "the search_path of this role of Postgres names no schema that is there, so there is nowhere to put tables:"
            " make the schema, or set the path right by ALTER ROLE ... SET search_path = ..."
        ) from None
