"""Bringing the database to the schema that this version of the code knows."""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from shared.store.postgres import connect_args, connect_once, for_sqlalchemy


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = for_sqlalchemy(url)
    config.attributes["connect_args"] = connect_args(url)
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


def upgrade(url: str) -> None:
    """Apply every migration that is missing. Raises StoreAway."""
    current(url)
    command.upgrade(_config(url), "head")
