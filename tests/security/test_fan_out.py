"""One delivery does not use up an account's budget: what asks for too many calls is parked."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import asyncpg
import orjson
import pytest
from uuid_utils.compat import uuid7

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.inbox import NewEvent, insert
from shared.watching import ConfigurationWatch
from workers.follow_up.flow import follow_up
from workers.process import WorkerProcess


CONFIG = """
[following_up]
max_calls = 3

[[paybook.accounts]]
name = "main"
webhook_tokens = ["paybook-token-0123456789"]
api_key = "to-them"
base_url = "http://127.0.0.1:1"
"""


@pytest.fixture
def process(database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, in this one."""
    (tmp_path / "penstock.toml").write_text(CONFIG, encoding="utf-8")
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(tmp_path / "penstock.toml"), "worker-paybook")
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(("urls", "fetches"), [(3, 3), (4, 0)])
def test_a_delivery_that_asks_for_too_many_calls_is_parked(
    process: WorkerProcess, database_url: str, urls: int, fetches: int
) -> None:
    """With its reason and both numbers, and none of its calls is planned; at the bound all of them are."""
    asked = [f"/v1/accounts?id_credential={number}" for number in range(urls)]
    body = orjson.dumps({"id_user": "5e79", "event": "refresh", "endpoints": {"accounts": asked}})

    async def receive_and_look() -> tuple[str | None, str | None, int]:
        connection = await asyncpg.connect(database_url)
        event = uuid7()
        sealed = process.keys.seal(body, event)
        row = NewEvent(
            *(event, "paybook", "main", datetime.now(UTC), "postgres", "application/json", [], sealed, None),
            *(len(body), sha256(body).digest()),
        )
        await insert(connection, [row])
        await asyncio.to_thread(process.run, follow_up(process, "paybook"))
        found = await connection.fetchrow("SELECT error_reason, error_detail FROM events")
        planned = await connection.fetchval("SELECT count(*) FROM fetches")
        await connection.close()
        assert found
        return found["error_reason"], found["error_detail"], planned

    reason, detail, planned = asyncio.run(receive_and_look())

    assert fetches == planned
    if not fetches:
        assert ("too-many-calls", "it asks for 4 calls; max_calls is 3") == (reason, detail)
