"""The bench touches nothing that holds anything."""

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest
import redis as redis_client
from pydantic import SecretStr

from ops.bench.stores import bench_stores, refuse_data, refuse_running
from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from ops.installation import Installation, NotedProcess, note
from ops.supervisor.alive import started_at
from ops.supervisor.stores import Stores
from shared.errors import SettingsError
from shared.settings import Settings


def test_a_database_with_a_row_is_refused(database_url: str, empty_redis: Redis) -> None:
    """One row of one table is enough; a database that was only migrated holds nothing."""
    stores = Stores(database_url, empty_redis.url, ())
    refuse_data(stores)
    _execute(database_url, "INSERT INTO worker_processes (id, name) VALUES (gen_random_uuid(), 'worker-imin-1')")

    with pytest.raises(SettingsError, match=r"holds data.*worker_processes"):
        refuse_data(stores)


def test_a_redis_with_a_key_is_refused(database_url: str, empty_redis: Redis) -> None:
    """Even in a database of it that was not named: the bench takes several."""
    with redis_client.Redis.from_url(empty_redis.url.replace("/0", "/7")) as client:
        client.set("something", "there")
        try:
            with pytest.raises(SettingsError, match=r"PENSTOCK_REDIS_URL.*db7"):
                refuse_data(Stores(database_url, empty_redis.url, ()))
        finally:
            client.flushdb()


def test_it_does_not_run_beside_an_installation(tmp_path: Path) -> None:
    """Its work would be measured too."""
    pid = os.getpid()
    noted = Installation(
        supervisor=NotedProcess("supervisor", pid, started_at(pid) or 0),
        processes=(),
        ingress_url="http://127.0.0.1:1",
        database_url="postgresql://127.0.0.1/none",
        redis_url="redis://127.0.0.1/0",
        blob_url=None,
        config="penstock.toml",
        encryption_keys_file=None,
        flower_password="",
    )
    note(tmp_path, noted)

    with pytest.raises(SettingsError, match="an installation runs in"):
        refuse_running(Settings(data_dir=tmp_path))


def test_two_do_not_run_in_one_data_directory(tmp_path: Path, postgres: Postgres, empty_redis: Redis) -> None:
    """The second would throw away the servers of the first."""
    settings = Settings(data_dir=tmp_path, database_url=SecretStr(postgres.url), redis_url=SecretStr(empty_redis.url))

    with (
        bench_stores(settings),
        pytest.raises(SettingsError, match=rf"`penstock bench` already runs in {tmp_path}"),
        bench_stores(settings),
    ):
        pass


def test_databases_are_fresh_and_gone_afterwards(tmp_path: Path, postgres: Postgres, empty_redis: Redis) -> None:
    """On a server that is set, nothing of the bench stays behind, nor in the data directory."""
    settings = Settings(data_dir=tmp_path, database_url=SecretStr(postgres.url), redis_url=SecretStr(empty_redis.url))
    before = _databases(postgres.url)

    with bench_stores(settings) as (stores, folder):
        url = stores.database()
        assert 0 == _execute(url, "SELECT count(*) FROM events")
        assert folder.is_dir()

    assert before == _databases(postgres.url)
    assert [] == [*tmp_path.iterdir()]


def _databases(url: str) -> object:
    return _execute(
        url, "SELECT array_agg(datname::text ORDER BY 1) FROM pg_database WHERE datname LIKE 'penstock_bench%'"
    )


def _execute(url: str, statement: str) -> object:
    async def execute() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(execute())
