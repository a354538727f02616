"""A worker process that starts while Postgres does not take it yet: it waits, and holds nothing meanwhile."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.watching import ConfigurationWatch
from workers.process import WorkerProcess


ROUNDS = 5
SECONDS = 60.0
"""Only for what hangs."""

Ask = Callable[[str], Any]


@pytest.fixture
def ask(postgres: Postgres) -> Ask:
    """One statement as the superuser, in another database than the test's."""

    def ask(statement: str) -> Any:
        async def run() -> Any:
            connection = await asyncpg.connect(postgres.url)
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return asyncio.run(run())

    return ask


@pytest.fixture
def process(database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker process that was not started yet."""
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(tmp_path / "penstock.toml"), "worker-imin")
    yield made
    made.stop()


def test_while_postgres_is_read_only(process: WorkerProcess, database_url: str, ask: Ask) -> None:
    """After a failover to a standby, say: each round gives its connections back."""
    name = database_url.rpartition("/")[2]
    ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    held = _held_after_rounds(process, name, ask, f"ALTER DATABASE {name} SET default_transaction_read_only = off")

    assert held <= 2


def test_while_its_tables_are_not_there(process: WorkerProcess, database_url: str, ask: Ask) -> None:
    """Nobody has migrated yet: it waits for that too."""
    name = database_url.rpartition("/")[2]
    asyncio.run(_run(database_url, "ALTER TABLE worker_processes RENAME TO not_yet"))

    held = _held_after_rounds(
        process, name, ask, lambda: asyncio.run(_run(database_url, "ALTER TABLE not_yet RENAME TO worker_processes"))
    )

    assert held <= 2


def test_while_postgres_has_room_for_one_more_only(process: WorkerProcess, database_url: str, ask: Ask) -> None:
    """The first pool is made and the second one is not: a full server is not filled further."""
    name = database_url.rpartition("/")[2]
    role = f"narrow_{name}"
    ask(f"CREATE ROLE {role} LOGIN PASSWORD 'narrow' CONNECTION LIMIT 1")
    process.settings = process.settings.model_copy(
        update={
            "database_url": type(process.settings.database_url)(  # type: ignore[misc]  # it is set
                f"postgresql://{role}:narrow@{database_url.rpartition('@')[2]}"
            )
        }
    )
    asyncio.run(_run(database_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))

    held = _held_after_rounds(process, name, ask, f"ALTER ROLE {role} CONNECTION LIMIT -1")

    assert held <= 1


def _held_after_rounds(process: WorkerProcess, database: str, ask: Ask, mend: str | Callable[[], Any]) -> int:
    """Start it, let it try some times, mend, and see it start; the most connections that it held until then."""
    ours = "application_name LIKE 'penstock %'"
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND {ours}"  # noqa: S608 - of this test
    held = 0
    with capture_logs() as told:
        starting = threading.Thread(target=process.start, daemon=True)
        starting.start()
        until = time.monotonic() + SECONDS
        while sum(line["event"] == "waiting for Postgres" for line in told) < ROUNDS:
            assert time.monotonic() < until, f"it does not wait: {told}"
            assert starting.is_alive()
            held = max(held, ask(count))
            time.sleep(0.05)
        ask(mend) if isinstance(mend, str) else mend()
        starting.join(SECONDS)
    assert not starting.is_alive()
    assert 1 == ask("SELECT 1")
    return held


async def _run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
