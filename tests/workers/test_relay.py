"""The relay as a process: what it bears of its stores, that no duty waits for another, and its sign of life."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis as Client
from uuid_utils.compat import uuid7

from ops.embedded.redis import Redis
from ops.supervisor.process import Process, Program
from redis_faults.bench import KEY, ROOT
from shared.queue import queue_of
from shared.spool import Spool
from shared.store.inbox import NewEvent, insert
from support.conditions import HANG_SECONDS, until


ACCOUNT = """
[[imin.accounts]]
name = "main"
webhook_keys = ["a-key-that-imin-sends-to-us"]
api_key = "a-key-that-we-send-to-imin"
base_url = "http://127.0.0.1:9"
"""


def _relay(folder: Path, database_url: str, redis_url: str) -> Program:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PROMETHEUS_"))}
    return Program(
        name="relay",
        argv=[sys.executable, "-m", "ops", "relay", "--heartbeat", str(folder / "heartbeat")],
        environment={
            **clean,
            "PYTHONPATH": str(ROOT),
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis_url,
            "PENSTOCK_DATA_DIR": str(folder),
            "PENSTOCK_CONFIG": str(folder / "penstock.toml"),
            "PENSTOCK_ENCRYPTION_KEYS": KEY,
        },
        log=folder / "relay.log",
    )


def test_a_redis_that_stands_still_is_noticed_and_stops_no_heartbeat(tmp_path: Path, database_url: str) -> None:
    """The tick ends and is tried again, the file is touched meanwhile, and SIGTERM ends the process."""
    heartbeat = tmp_path / "heartbeat"
    with Redis(tmp_path) as server:
        relay = Process(_relay(tmp_path, database_url, server.url))
        try:
            until(heartbeat.exists, otherwise="no sign of life")
            assert server.process
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                until(lambda: "a store is away" in relay.program.log.read_text(), otherwise="it does not notice")
                sign = heartbeat.stat().st_mtime_ns
                until(lambda: heartbeat.stat().st_mtime_ns > sign, otherwise="it gives no sign of life")
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            relay.stop()
            ended = relay.wait(HANG_SECONDS)
        finally:
            relay.kill()

    assert ended


def _event(durability: str = "postgres") -> NewEvent:
    """A delivery as ingress keeps it."""
    body = b"sealed"
    return NewEvent(
        id=uuid7(),
        provider="imin",
        account="main",
        received_at=datetime.now(UTC),
        durability=durability,
        content_type="application/json",
        headers=[],
        body=body,
        blob=None,
        body_bytes=len(body),
        body_sha256=hashlib.sha256(body).digest(),
    )


@asynccontextmanager
async def _running(folder: Path, database_url: str, redis_url: str) -> AsyncIterator[Process]:
    """A relay that has taken up its work."""
    relay = Process(_relay(folder, database_url, redis_url))
    try:
        await _until((folder / "heartbeat").exists, "no sign of life")
        yield relay
    finally:
        relay.kill()
        relay.wait(10)


async def _until(
    condition: Callable[[], object | Awaitable[object]], problem: str, within: float = HANG_SECONDS
) -> None:
    """Wait for a condition; less than a statement's 30 seconds, after which a duty that was held up goes on anyway."""
    try:
        async with asyncio.timeout(within):
            while True:
                found = condition()
                if await found if isinstance(found, Awaitable) else found:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(problem)


async def _spool(redis: Client) -> UUID:
    event = _event("spool")
    await Spool(redis).append([event], 1)
    return event.id


@pytest.mark.anyio
@pytest.mark.parametrize("held", ["quarantine", "rhythms", "retention", "worker_processes", "relay_duties"])
async def test_housekeeping_that_is_held_up_holds_up_nothing_that_was_promised(
    held: str, database_url: str, empty_redis: Redis, tmp_path: Path
) -> None:
    """What was spooled is drained and what is due gets a message, while a table of another duty is locked."""
    (tmp_path / "penstock.toml").write_text(ACCOUNT)
    db, blocker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    redis = Client.from_url(empty_redis.url)
    try:
        async with blocker.transaction():
            await blocker.execute(f"LOCK TABLE {held} IN ACCESS EXCLUSIVE MODE")
            async with _running(tmp_path, database_url, empty_redis.url):
                for _ in range(2):  # the first time all duties may only just begin
                    spooled = await _spool(redis)
                    due = _event()
                    await insert(db, [due])
                    await db.execute("UPDATE events SET queue_at = now() WHERE id = $1", due.id)
                    await _until(
                        lambda one=spooled: db.fetchval("SELECT true FROM events WHERE id = $1", one),
                        "the spool is not drained",
                    )
                    await _until(
                        lambda one=due: db.fetchval("SELECT queue_at > now() FROM events WHERE id = $1", one.id),
                        "what is due is not queued",
                    )
            assert 3 <= await redis.llen(queue_of("imin"))
    finally:
        await redis.aclose()
        await db.close()
        await blocker.close()


@pytest.mark.anyio
async def test_events_of_a_returned_account_go_on_beside_one_that_somebody_holds(
    database_url: str, empty_redis: Redis, tmp_path: Path
) -> None:
    """However many wait, and whoever looks at one of them: the others go on, and the spool is drained meanwhile."""
    (tmp_path / "penstock.toml").write_text(ACCOUNT)
    db, blocker = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    redis = Client.from_url(empty_redis.url)
    events = [_event() for _ in range(1_200)]
    try:
        await insert(db, events)
        await db.execute("UPDATE events SET state = 'parked', error_reason = 'account-removed', finished_at = now()")
        async with blocker.transaction():
            await blocker.execute("SELECT FROM events WHERE id = $1 FOR UPDATE", events[0].id)
            async with _running(tmp_path, database_url, empty_redis.url):
                spooled = await _spool(redis)
                await _until(
                    lambda: db.fetchval("SELECT true FROM events WHERE id = $1", spooled), "the spool is not drained"
                )
                await _until(
                    lambda: db.fetchval("SELECT count(*) = 1 FROM events WHERE state = 'parked'"),
                    "they do not go on",
                )
    finally:
        await redis.aclose()
        await db.close()
        await blocker.close()
