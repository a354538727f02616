"""What a worker process holds, and what it lets go."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store import planning
from shared.store.planning import ClaimedEvent
from shared.store.postgres import Connection
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
    """The claim is committed, then giving the connection back fails: the next beat must make the event due again."""

    async def receive_and_claim() -> int:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            """
            INSERT INTO events (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256)
            VALUES ($1, 'imin', 'main', 'postgres', '', '[]', '', 0, '')
            """,
            uuid4(),
        )
        busy: list[asyncio.Task[object]] = []

        async def claim(pooled: Connection) -> list[ClaimedEvent]:
            claimed = await planning.claim(pooled, "imin", (), 10, process.id)
            # Another statement is under way when the connection goes back to the pool, which refuses it.
            busy.append(asyncio.create_task(pooled.execute("SELECT pg_sleep(60)")))
            await asyncio.sleep(0)
            return claimed

        with pytest.raises(asyncpg.InterfaceError):
            async with process.holding(claim):
                pytest.fail("the block must not be entered")
        await asyncio.gather(*busy, return_exceptions=True)
        held: int = await connection.fetchval("SELECT count(*) FROM events WHERE claimed_by IS NOT NULL")
        await connection.close()
        return held

    assert 1 == process.run(receive_and_claim())
    assert set() == process._held
