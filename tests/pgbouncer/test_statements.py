"""Statements, settings and locks of ours behind a pgbouncer that gives each transaction another server connection."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from ops.backup.programs import pg_dump
from ops.checks.stores import check_postgres
from pgbouncer.bouncer import bouncing
from shared.errors import SettingsError, StoreAway
from shared.settings import Settings
from shared.store.locking import alone
from shared.store.migrating import current, newest, upgrade
from shared.store.postgres import Pool, connect_once, open_pool
from shared.store.reading.connecting import reading, reading_engine


pytestmark = pytest.mark.anyio

CLIENTS = 12
TIMES = 40


@pytest.fixture
def pooled(database_url: str, tmp_path: Path) -> Iterator[str]:
    """A migrated database behind pgbouncer."""
    with bouncing(database_url, tmp_path) as url:
        yield url


async def test_many_clients_share_few_server_connections(pooled: str) -> None:
    """The same statements again and again, in and out of transactions, with parameters of every kind that we use."""
    pool = await open_pool(pooled, name="test", size=CLIENTS)

    async def work(number: int) -> int:
        seen = 0
        for turn in range(TIMES):
            async with pool.acquire() as connection:
                seen += await connection.fetchval("SELECT $1::int", turn)
                async with connection.transaction():
                    await connection.execute("SELECT $1::jsonb, $2::uuid[]", "{}", [])
                    seen += await connection.fetchval("SELECT count(*) FROM events WHERE provider = $1", str(number))
        return seen

    found = await asyncio.gather(*(work(number) for number in range(CLIENTS)))
    await pool.close()
    assert [sum(range(TIMES))] * CLIENTS == found


async def test_transactions_have_the_plans_of_a_direct_connection_and_leave_no_setting_behind(pooled: str) -> None:
    """A claim is planned in index order, also the look before it; the next client of the server's connection is not."""
    claims = await open_pool(pooled, name="test", size=1, in_index_order=True)
    work = await open_pool(pooled, name="test", size=CLIENTS)
    names = ("jit", "enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_sort")
    settings = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)

    async def of(pool: Pool) -> tuple[str, ...]:
        async with pool.acquire() as connection, connection.transaction():
            return tuple(await connection.fetchrow(settings) or ())

    async with claims.acquire() as connection:
        looked = tuple(await connection.fetchrow(settings) or ())
        assert [looked] == [tuple(row) for row in await connection.fetch(settings)]
    for _ in range(TIMES):
        assert ("off",) * 5 == looked == await of(claims)
        assert (*("off",) * 4, "on") == await of(work)
    connection = await connect_once(pooled)
    assert {"on"} == {await connection.fetchval("SHOW enable_seqscan") for _ in range(TIMES)}
    await connection.close()
    await claims.close()
    await work.close()


async def test_a_savepoint_begins_with_no_settings_of_its_own(pooled: str) -> None:
    """A transaction inside a transaction is rolled back alone, as ever."""
    pool = await open_pool(pooled, name="test", size=1)
    async with pool.acquire() as connection, connection.transaction():
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                raise ZeroDivisionError
        assert "off" == await connection.fetchval("SHOW enable_seqscan")
    await pool.close()


async def test_what_one_process_does_alone_no_other_does_meanwhile(pooled: str, database_url: str) -> None:
    """The lock is held while statements of the block change their server connections, and gone after it."""
    first, second = await connect_once(pooled), await connect_once(pooled)
    direct = await connect_once(database_url)
    async with alone(first, "a walk") as mine:
        for _ in range(TIMES):
            await first.fetchval("SELECT 1")
        async with alone(second, "a walk") as theirs, alone(second, "another walk") as another:
            assert (True, False, True) == (mine, theirs, another)
    async with alone(second, "a walk") as later:
        assert later
    held = """
        SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
        WHERE locktype = 'advisory' AND datname = current_database()
    """
    while await direct.fetchval(held):  # noqa: ASYNC110 - until Postgres has seen the end of the transaction
        await asyncio.sleep(0.05)
    for connection in (first, second, direct):
        await connection.close()


async def test_reading_cannot_write_and_reads_with_cursors(pooled: str) -> None:
    """Each transaction says so itself; a cursor lives within one."""
    engine = reading_engine(pooled)
    async with reading(engine) as connection:
        streamed = await connection.stream(
            text("SELECT generate_series(1, :last)"), {"last": 2500}, execution_options={"yield_per": 1000}
        )
        assert 2500 == len([row async for row in streamed])
    with pytest.raises(StoreAway, match="read-only transaction"):
        async with reading(engine) as connection:
            await connection.execute(text("DELETE FROM events"))
    await engine.dispose()


async def test_a_url_that_does_not_say_so_is_refused_at_once(pooled: str) -> None:
    """Before any statement is mixed up with another client's."""
    unsaid = pooled.partition("?")[0]
    with pytest.raises(StoreAway, match=r"looks like pgbouncer: add \?pgbouncer=true"):
        await connect_once(unsaid)
    with pytest.raises(StoreAway, match=r"looks like pgbouncer: add \?pgbouncer=true"):
        await open_pool(unsaid, name="test", size=1)


async def test_the_check_says_what_the_role_lacks(pooled: str, database_url: str) -> None:
    """Pgbouncer hands on no setting, so single statements have those of the role."""
    settings = Settings.read({"PENSTOCK_DATABASE_URL": pooled})
    direct = await connect_once(database_url)
    found = {each.item: each for each in await check_postgres(settings)}
    assert "advice" == found["pgbouncer"].level
    for name in ("jit", "enable_seqscan"):
        await direct.execute(f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET {name} = off")
    await direct.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await direct.close()
    found = {each.item: each for each in await check_postgres(settings)}
    assert "ok" == found["pgbouncer"].level


async def test_a_backup_asks_for_the_server_itself(pooled: str, tmp_path: Path) -> None:
    """pg_dump sets what outlives a transaction."""
    with pytest.raises(SettingsError, match="needs Postgres itself, not pgbouncer"):
        await pg_dump(pooled, tmp_path / "dump", snapshot="1")


def test_a_value_that_says_nothing_is_refused() -> None:
    """With the setting's name."""
    with pytest.raises(SettingsError, match=r"^PENSTOCK_DATABASE_URL: pgbouncer=yes: write pgbouncer=true"):
        Settings.read({"PENSTOCK_DATABASE_URL": "postgresql://db/penstock?pgbouncer=yes"})


def test_migrations_go_through_it(empty_database_url: str, tmp_path: Path) -> None:
    """From nothing to the newest revision."""
    with bouncing(empty_database_url, tmp_path) as url:
        upgrade(url)
        assert newest() == current(url)
