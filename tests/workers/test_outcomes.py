"""A worker process notes in its lease since when its tasks only fail, and writes nothing while all is well."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from ops.embedded.redis import Redis
from shared.sealing import generate_key
from shared.settings import Settings
from shared.watching import ConfigurationWatch
from workers.health.outcomes import Outcomes
from workers.process import WorkerProcess


def _noted(url: str) -> tuple[bool, str | None]:
    """Whether it fails, and with what."""

    async def ask() -> tuple[bool, str | None]:
        connection = await asyncpg.connect(url)
        try:
            row = await connection.fetchrow("SELECT failing_since IS NOT NULL AS fails, error FROM worker_processes")
            assert row
            return row["fails"], row["error"]
        finally:
            await connection.close()

    return asyncio.run(ask())


def _fails() -> None:
    raise KeyError("purpose")


def test_a_process_that_only_fails_is_known_until_it_succeeds(database_url: str, redis: Redis, tmp_path: Path) -> None:
    """The error is passed on; the first success ends it."""
    settings = Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis.url),
        encryption_keys=(SecretStr(generate_key()),),
    )
    process = WorkerProcess(settings, ConfigurationWatch(tmp_path / "penstock.toml"), "worker-imin")
    process.start()
    outcomes = Outcomes()
    try:
        assert "done" == outcomes.watch(process, lambda: "done")
        assert (False, None) == _noted(database_url)
        for _ in range(2):
            with pytest.raises(KeyError, match="purpose"):
                outcomes.watch(process, _fails)
        assert (True, "KeyError: 'purpose'") == _noted(database_url)
        outcomes.watch(process, lambda: None)
        assert (False, None) == _noted(database_url)
    finally:
        process.stop()
