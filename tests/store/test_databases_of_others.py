"""Databases as somebody else set them up: refused with a sentence where they cannot hold us, else as any other."""

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from installation import clean_environment
from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from shared.errors import SettingsError, StoreAway, StoreUnfit
from shared.store.migrating import current, newest, upgrade
from shared.store.postgres import connect_once, open_pool
from shared.store.reading.connecting import reading, reading_engine
from store.tls_proxy import tls_postgres


ENCODINGS = ("LATIN1", "SQL_ASCII", "LATIN9", "WIN1252", "EUC_JP")


def _run(server: Postgres, *statements: str, database: str = "") -> None:
    async def run() -> None:
        connection = await asyncpg.connect(f"{server.url.rpartition('/')[0]}/{database}" if database else server.url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def _url(server: Postgres, database: str) -> str:
    return f"{server.url.rpartition('/')[0]}/{database}"


@pytest.fixture(params=ENCODINGS)
def foreign(request: pytest.FixtureRequest, postgres: Postgres) -> str:
    """The URL of a database of another encoding."""
    name = f"foreign_{uuid.uuid4().hex}"
    _run(
        postgres,
        f"CREATE DATABASE {name} ENCODING '{request.param}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    return _url(postgres, name)


def test_a_database_of_another_encoding_is_refused_by_every_way(foreign: str) -> None:
    """One sentence with the encoding and what to do; nothing is put there."""
    for attempt in (
        lambda: upgrade(foreign),
        lambda: asyncio.run(connect_once(foreign)),  # type: ignore[arg-type]  # a coroutine
        lambda: asyncio.run(open_pool(foreign, name="test", size=1)),
        lambda: asyncio.run(_read(foreign)),
    ):
        with pytest.raises((StoreUnfit, asyncpg.PostgresError), match=r"createdb --encoding=UTF8"):
            attempt()


async def _read(url: str) -> None:
    engine = reading_engine(url)
    try:
        async with reading(engine):
            pass
    finally:
        await engine.dispose()


@pytest.mark.parametrize("command", ["migrate", "up", "check", "stats"])
def test_every_command_says_so(command: str, postgres: Postgres, redis: Redis, tmp_path: Path) -> None:
    """The same sentence, no traceback, and nothing is started."""
    name = f"foreign_{uuid.uuid4().hex}"
    _run(postgres, f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    ports = {f"PENSTOCK_{each}_PORT": "0" for each in ("INGRESS", "CONSOLE", "FLOWER", "METRICS")}
    stores = {"PENSTOCK_DATABASE_URL": _url(postgres, name), "PENSTOCK_REDIS_URL": redis.url}
    done = subprocess.run(
        [sys.executable, "-m", "ops", command],
        cwd=tmp_path,
        env=clean_environment(
            variables={**ports, **stores, "PENSTOCK_ENCRYPTION_KEYS": "A" * 43 + "="},
        ),
        capture_output=True,
        timeout=120,
        check=False,
    )
    said = (done.stdout + done.stderr).decode()
    assert 1 == done.returncode, said
    assert "has the encoding LATIN1" in said
    assert "createdb --encoding=UTF8" in said
    assert "Traceback" not in said


def test_a_server_that_is_too_old_is_refused(postgres: Postgres) -> None:
    """Before a statement that it does not know, whatever asks for it."""
    parts = urlsplit(postgres.url)
    there = (b"server_version\x0018.", b"server_version\x0013.")
    with tls_postgres(postgres.port, None, only=False, rewrite=there) as server:
        url = f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{server.server_address[1]}/penstock"
        for attempt in (lambda: upgrade(url), lambda: current(url)):
            with pytest.raises(StoreUnfit, match="it is version 13, and Penstock needs 14 or later"):
                attempt()


HOSTILE: Mapping[str, str] = {
    "default_transaction_isolation": "serializable",
    "TimeZone": "Pacific/Kiritimati",
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "client_encoding": "LATIN1",
}


@pytest.fixture
def grudging(postgres: Postgres) -> Iterator[str]:
    """The URL of a database whose role has other defaults than ours."""
    role = f"grudging_{uuid.uuid4().hex}"
    _run(
        postgres,
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"CREATE DATABASE {role} OWNER {role} TEMPLATE template0",
        *(f"ALTER ROLE {role} SET {name} = '{value}'" for name, value in HOSTILE.items()),
    )
    yield f"postgresql://{role}:secret@127.0.0.1:{postgres.port}/{role}"
    _run(postgres, f"DROP DATABASE {role} WITH (FORCE)", f"DROP ROLE {role}")


EXPECTED = {
    "default_transaction_isolation": "read committed",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_encoding": "UTF8",
}


def test_a_roles_defaults_change_nothing(grudging: str) -> None:
    """Migrations go through, and pools, commands and pages have the session that they are written for."""
    upgrade(grudging)
    assert newest() == current(grudging)
    names = list(EXPECTED)

    async def settings() -> list[dict[str, str]]:
        query = "SELECT name, setting FROM pg_settings WHERE name = ANY($1)"
        connection = await connect_once(grudging)
        pool = await open_pool(grudging, name="test", size=1)
        engine = reading_engine(grudging)
        try:
            async with reading(engine) as reader:
                rows = await reader.execute(
                    text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"), {"names": names}
                )
                found = [dict(row) for row in (await connection.fetch(query, names), await pool.fetch(query, names))]
                return [*found, dict(iter(rows))]
        finally:
            await connection.close()
            await pool.close()
            await engine.dispose()

    assert [EXPECTED] * 3 == asyncio.run(settings())


@pytest.mark.parametrize("path", ["", "nosuch", "pg_catalog_of_nobody, nosuch"])
def test_a_role_without_a_place_for_tables_is_told_so(path: str, postgres: Postgres, empty_database_url: str) -> None:
    """``search_path`` is the operator's to set, and a schema of its own is where tables go."""
    name = empty_database_url.rpartition("/")[2]
    _run(
        postgres,
        f"ALTER DATABASE {name} SET search_path = '{path}'" if path else f"ALTER DATABASE {name} SET search_path = ''",
    )
    with pytest.raises(SettingsError, match="search_path"):
        upgrade(empty_database_url)
    _run(postgres, f"ALTER DATABASE {name} SET search_path = 'acme'")
    _run(postgres, "CREATE SCHEMA acme", database=name)
    upgrade(empty_database_url)
    assert newest() == current(empty_database_url)


def test_a_migration_waits_for_a_table_that_is_in_use_and_then_goes_on(empty_database_url: str) -> None:
    """Two seconds at a time, so that whoever writes meanwhile is not held up for longer."""
    _at_revision(empty_database_url, "0001")
    begun, end = threading.Event(), threading.Event()
    holder = threading.Thread(target=asyncio.run, args=(_hold(empty_database_url, begun, end),))
    holder.start()
    assert begun.wait(30)
    try:
        with pytest.raises(StoreAway, match=r"a table is in use .* \(penstock\) has had a transaction open"):
            upgrade(empty_database_url, patience_seconds=0)
        assert "0001" == current(empty_database_url)
        later = threading.Timer(4, end.set)
        later.start()
        upgrade(empty_database_url)
        assert newest() == current(empty_database_url)
        later.join()
    finally:
        end.set()
        holder.join()


async def _hold(url: str, begun: threading.Event, end: threading.Event) -> None:
    """As whoever makes an index of it: it may be read, and not changed."""
    connection = await connect_once(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE alembic_version IN SHARE MODE")
            begun.set()
            await asyncio.to_thread(end.wait)
    finally:
        await connection.close()


def _at_revision(url: str, revision: str) -> None:
    from alembic import command  # noqa: PLC0415 - one test stops half-way

    from shared.store import migrating  # noqa: PLC0415 - the same

    command.upgrade(migrating._config(url), revision)
