"""What a worker process holds, and what it lets go."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store import planning
from shared.store.fairness import Room
from shared.store.planning import ClaimedEvent
from shared.store.postgres import AWAY, Connection
from shared.watching import ConfigurationWatch
from workers.process import WorkerProcess


@pytest.fixture
def process(database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, in this one."""
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(tmp_path / "penstock.toml"), "worker-imin")
    made.start()
    yield made
    made.stop()


def test_what_was_claimed_on_a_connection_that_breaks_is_not_held(process: WorkerProcess, database_url: str) -> None:
    """The claim is committed, and nobody here hears of it: the next beat must make the event due again."""

    async def receive_and_claim() -> int:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            """
            INSERT INTO events (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256)
            VALUES ($1, 'imin', 'main', 'postgres', '', '[]', '', 0, '')
            """,
            uuid4(),
        )

        async def claim(pooled: Connection) -> list[ClaimedEvent]:
            claimed = await planning.claim(pooled, "imin", Room.of(10), process.id)
            pid = await pooled.fetchval("SELECT pg_backend_pid()")
            await connection.execute("SELECT pg_terminate_backend($1)", pid)
            await pooled.execute("SELECT 'the connection is gone'")
            return claimed

        with pytest.raises((asyncpg.PostgresError, *AWAY)):
            await process.take(claim, list, process.claims)
        held: int = await connection.fetchval("SELECT count(*) FROM events WHERE claimed_by IS NOT NULL")
        await connection.close()
        return held

    assert 1 == process.run(receive_and_claim())
    assert set() == process._held


def test_what_was_let_go_is_due_again_after_a_beat(process: WorkerProcess, database_url: str) -> None:
    """What is claimed and not held belongs to nobody here."""

    async def claim_and_let_go() -> None:
        async def claim(pooled: Connection) -> list[ClaimedEvent]:
            await pooled.execute(
                """
                INSERT INTO events
                    (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256)
                VALUES ($1, 'imin', 'main', 'postgres', '', '[]', '', 0, '')
                """,
                uuid4(),
            )
            return await planning.claim(pooled, "imin", Room.of(10), process.id)

        claimed = await process.take(claim, list, process.claims)
        assert {event.id for event in claimed} == process._held
        process.let_go(event.id for event in claimed)

    async def is_due() -> bool:
        connection = await asyncpg.connect(database_url)
        due: bool = await connection.fetchval("SELECT claimed_by IS NULL FROM events")
        await connection.close()
        return due

    process.run(claim_and_let_go())

    until = time.monotonic() + 20
    while not process.run(is_due()):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert set() == process._held


def test_a_connection_goes_back_without_its_transaction(process: WorkerProcess) -> None:
    """Whoever gets it next begins anew, although no query cleans it up."""

    async def leave_open() -> list[object]:
        async with process.pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute("CREATE TEMPORARY TABLE left_behind (n int) ON COMMIT DROP")
        async with process.pool.acquire() as connection:
            return [connection.is_in_transaction(), await connection.fetchval("SELECT to_regclass('left_behind')")]

    assert [False, None] == process.run(leave_open())
