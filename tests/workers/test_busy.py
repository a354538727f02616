"""A worker process that is busy with one thing lives, and keeps its claims; one that hangs does not."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest

from ops.embedded.redis import Redis
from shared.providers.interface import Answer, Call
from shared.providers.registry import PROVIDERS
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store import planning
from shared.store.fairness import Room
from shared.store.fetching import ClaimedFetch
from shared.store.leases import Expiry
from shared.store.planning import ClaimedEvent
from shared.store.postgres import Connection
from shared.watching import ConfigurationWatch
from workers.follow_up import privacy, recognising
from workers.lease import Life
from workers.process import WorkerProcess


LEASE_SECONDS = 3.0
TIMING = """
[timing]
call_seconds = 0.5
soft_limit_seconds = {soft}
time_limit_seconds = {hard}
visibility_timeout_seconds = 900
beat_seconds = 0.5
lease_seconds = 3.0
"""


def _settings(database_url: str, redis: Redis, folder: Path) -> dict[str, str]:
    return {
        "PENSTOCK_DATABASE_URL": database_url,
        "PENSTOCK_REDIS_URL": redis.url,
        "PENSTOCK_DATA_DIR": str(folder),
        "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
    }


@contextmanager
def _started(settings: dict[str, str], folder: Path, soft: float = 90.0) -> Iterator[WorkerProcess]:
    config = folder / "penstock.toml"
    config.write_text(TIMING.format(soft=soft, hard=600), encoding="utf-8")
    made = WorkerProcess(Settings.read(settings), ConfigurationWatch(config), "worker-imin")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def settings(database_url: str, redis: Redis, tmp_path: Path) -> dict[str, str]:
    """What the process is to be started with."""
    return _settings(database_url, redis, tmp_path)


def test_a_loop_that_is_busy_for_longer_than_a_lease_keeps_its_claims(
    settings: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """It takes something large apart; nobody else is given what it holds."""
    with _started(settings, tmp_path) as process:
        busy_until = time.monotonic() + 3 * LEASE_SECONDS

        given_up = _while_it_holds_an_event(process, database_url, lambda: time.monotonic() < busy_until)

    assert 0 == given_up


def test_a_loop_that_hangs_loses_its_lease(settings: dict[str, str], database_url: str, tmp_path: Path) -> None:
    """For longer than a task may last: its claims go to others although its process, and its beat, are there."""
    with _started(settings, tmp_path, soft=1.0) as process:
        until = time.monotonic() + 60
        lost: list[int] = []

        def hangs() -> bool:
            return not lost and time.monotonic() < until

        given_up = _while_it_holds_an_event(process, database_url, hangs, lost.append)

    assert 1 == given_up


def _while_it_holds_an_event(
    process: WorkerProcess,
    database_url: str,
    busy: Callable[[], bool],
    on_lost: Callable[[int], None] = lambda _: None,
) -> int:
    """Have it claim one, and its loop blocked for so long, and look as a relay does; how many leases were ended."""

    async def claim_and_block() -> None:
        async def claim(pooled: Connection) -> list[ClaimedEvent]:
            await pooled.execute(
                """
                INSERT INTO events
                    (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256)
                VALUES ($1, 'imin', 'main', 'postgres', '', '[]', '', 0, '')
                """,
                uuid4(),
            )
            return await planning.claim(pooled, "imin", Room.of(1), process.id)

        claimed = await process.take(claim, list, process.claims)
        while busy():
            time.sleep(0.05)  # noqa: ASYNC251 - the loop stands still
        process.let_go(event.id for event in claimed)

    async def watch(blocked: "asyncio.Future[None]") -> int:
        connection = await asyncpg.connect(database_url)
        expiry, given_up = Expiry(), 0
        while not blocked.done():
            ended = await expiry.look(connection, LEASE_SECONDS)
            given_up += ended
            if ended:
                on_lost(ended)
            await asyncio.sleep(0.05)
        await connection.close()
        return given_up

    async def both() -> int:
        blocked = asyncio.get_running_loop().run_in_executor(None, lambda: process.run(claim_and_block()))
        given_up = await watch(blocked)
        await blocked
        return given_up

    return asyncio.run(both())


def test_a_process_whose_loop_hangs_for_longer_than_any_task_is_ended(settings: dict[str, str], tmp_path: Path) -> None:
    """Its worker starts another, and what it held counts as held by one that died."""
    (tmp_path / "penstock.toml").write_text(TIMING.format(soft=1.0, hard=2.0), encoding="utf-8")
    script = str(Path(__file__).with_name("hanging_process.py"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}

    done = subprocess.run(
        [sys.executable, script, str(tmp_path)],
        env={**clean, **settings},
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
    )

    assert -signal.SIGKILL == done.returncode
    assert "the loop of this process hangs; the process is ended" in done.stdout + done.stderr


def test_a_large_answer_is_taken_apart_and_sealed_while_the_loop_goes_on(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Calls and other answers are not held up by it."""
    accounts = [{"id_account": f"{number:024x}", "name": "x" * 400} for number in range(6000)]
    envelope = {"rid": "r", "code": 200, "errors": None, "status": True, "message": None, "response": accounts}
    answer = Answer(200, {"content-type": "application/json"}, orjson.dumps(envelope))
    call = Call("/v1/accounts", "accounts")
    fetch: Any = SimpleNamespace(provider="paybook", account="main", call=call)
    account: Any = SimpleNamespace(name="main")

    async def read(process: WorkerProcess) -> tuple[int, int, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with asyncio.TaskGroup() as tasks:
            turning = tasks.create_task(turn())
            await asyncio.sleep(0)
            outcome, _ = await recognising.read(
                process, _claimed(fetch), call, answer, account, PROVIDERS["paybook"].follow_up
            )
            while_reading, turns = turns, 0
            records, _ = await privacy.sealed(process, "paybook", "main", outcome.records, ())
            turning.cancel()
        assert all(record.sealed for record in records)
        return len(records), while_reading, turns

    with _started(settings, tmp_path) as process:
        records, while_reading, while_sealing = process.run(read(process))

    assert len(accounts) == records
    # On the loop it would be a turn or two for each time that something is asked of Postgres.
    assert while_reading > 100
    assert while_sealing > 100


def _claimed(fetch: Any) -> ClaimedFetch:
    claimed: ClaimedFetch = fetch
    return claimed


def test_a_loop_whose_watcher_stood_still_is_not_blamed() -> None:
    """The whole machine did: who looks late knows nothing of the time before."""
    loop = asyncio.new_event_loop()
    life = Life(loop)
    life._shown = life._looked = time.monotonic() - 3600

    assert life.still() < 1
    loop.close()
