"""The console reads from a streaming replica of Postgres, where one is set, and lets nobody write there."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from operators.conftest import Store
from operators.rows import event, new_id
from operators.test_console import running_console
from ops.embedded.postgres import Postgres, programs
from ops.embedded.redis import Redis
from shared.store.migrating import upgrade
from support.conditions import HANG_SECONDS


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Postgres]:
    """A Postgres of this test's own."""
    with Postgres(tmp_path / "primary") as server:
        upgrade(server.url)
        yield server


@pytest.fixture
def replica(primary: Postgres, tmp_path: Path) -> Iterator[Postgres]:
    """One that follows it: a base backup with what it needs in order to stream."""
    made = Postgres(tmp_path / "replica")
    made.data.mkdir(mode=0o700)
    shutil.copy(primary.data / "postgres-password", made.data)
    server = primary.url.rpartition("/")[0]
    subprocess.run(
        [programs() / "pg_basebackup", "-R", "-X", "stream", "-c", "fast", "-D", made.folder, "-d", f"{server}/"],
        check=True,
        capture_output=True,
        timeout=HANG_SECONDS,
    )
    owner = primary.folder.stat()
    for path in (made.data / "postgres-password", made.folder, *made.folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    with made:
        yield made


def of(url: str, statement: str) -> object:
    """What a statement answers."""

    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


def replayed(primary: Postgres, replica: Postgres) -> None:
    """Wait until the replica has everything that the primary wrote."""
    written = of(primary.url, "SELECT pg_current_wal_lsn()::text")
    while not of(replica.url, f"SELECT pg_last_wal_replay_lsn() >= '{written}'"):
        pass


def test_pages_show_what_the_replica_has(
    primary: Postgres, replica: Postgres, empty_redis: Redis, tmp_path: Path
) -> None:
    """While it is held back they show what it had; the primary itself is not asked."""
    first, second = new_id(), new_id()
    store = Store(primary.url)
    store.run(event(first))
    replayed(primary, replica)
    with running_console(tmp_path, primary.url, empty_redis.url, PENSTOCK_READ_DATABASE_URL=replica.url) as console:
        assert str(first) in console.get("/events").text
        of(replica.url, "SELECT pg_wal_replay_pause()")
        store.run(event(second))
        assert str(second) not in console.get("/events").text
        of(replica.url, "SELECT pg_wal_replay_resume()")
        replayed(primary, replica)
        assert str(second) in console.get("/events").text
