"""While Postgres does not do its work, events are kept in the spool and acknowledged as such."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import orjson
import pytest
import redis

from shared.spool import SPOOL
from shared.store.migrating import upgrade
from support.conditions import HANG_SECONDS
from tests.ingress.conftest import free_port, running_postgres, running_redis
from tests.ingress.delivering import steadily


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Reply, Server, Start


KEEPS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")


@pytest.fixture
def spooling_redis(tmp_path: Path) -> Iterator["Server"]:
    """A Redis that keeps what it is given."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder, free_port(), *KEEPS) as server:
        yield server


@pytest.fixture
def client(spooling_redis: "Server") -> Iterator["redis.Redis"]:
    """A look into it."""
    with redis.Redis.from_url(spooling_redis.url) as client:
        yield client


@pytest.fixture
def ingress(start_ingress: "Start", spooling_redis: "Server", freezable_postgres: "Server") -> Iterator["Ingress"]:
    """An ingress with both stores; Postgres is woken before it ends."""
    yield start_ingress(redis_url=spooling_redis.url)
    freezable_postgres.wake()


def durability(reply: "Reply") -> tuple[int, str | None]:
    """How it was answered, and where the event is."""
    return reply.status, reply.header("x-penstock-durability")


def timed(call: Callable[[], "Reply"]) -> tuple["Reply", float]:
    """The answer and the seconds that it took."""
    began = time.monotonic()
    return call(), time.monotonic() - began


def ready(ingress: "Ingress") -> tuple[int, dict[str, str]]:
    """What ``/health/ready`` says of the stores."""
    reply = ingress.get("/health/ready")
    return reply.status, orjson.loads(reply.body)["stores"]


def test_with_postgres_there_nothing_is_spooled(ingress: "Ingress", client: "redis.Redis") -> None:
    """The receipt says where the event is."""
    assert (204, "postgres") == durability(ingress.imin(b"{}"))
    assert 0 == client.xlen(SPOOL)
    assert (200, {"postgres": "ok", "redis": "ok"}) == ready(ingress)


def test_frozen_postgres_under_load(ingress: "Ingress", freezable_postgres: "Server", client: "redis.Redis") -> None:
    """Every delivery is acknowledged; once Postgres is known to be away, none waits for it any more."""
    assert (204, "postgres") == durability(ingress.imin(b"{}"))
    freezable_postgres.freeze()
    deliveries = asyncio.run(steadily(ingress, rate=100, seconds=6))
    assert {(204, "spool")} == {(each.status, each.durability) for each in deliveries}
    # The first one waited for a commit as long as one may take; most of those after it did not.
    known = deliveries[0].began + 3
    later = sorted(each.took for each in deliveries if each.began > known)
    assert later[len(later) // 2] < deliveries[0].took / 2
    assert len(deliveries) == client.xlen(SPOOL)
    assert (200, {"postgres": "away", "redis": "ok"}) == ready(ingress)
    freezable_postgres.wake()
    ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "postgres"))


def test_postgres_that_is_down_is_found_again(
    start_ingress: "Start", spooling_redis: "Server", servers_folder: Path, closed_port: int
) -> None:
    """A refused connection costs no time; when Postgres is there, ingress finds out by itself."""
    ingress = start_ingress(
        database_url=f"postgresql://postgres@127.0.0.1:{closed_port}/postgres", redis_url=spooling_redis.url
    )
    reply, took = timed(lambda: ingress.imin(b"{}"))
    assert (204, "spool") == durability(reply)
    # A refused connection is known at once; a commit would be waited for as long as it may take.
    assert took < 2 + ingress.own_seconds()
    folder = servers_folder / f"started-{closed_port}"
    folder.mkdir()
    folder.chmod(0o755)
    with running_postgres(folder, closed_port):
        # Without tables it takes nothing: the circuit stays open, whatever a SELECT says.
        time.sleep(1.5)
        assert (204, "spool") == durability(ingress.imin(b"{}"))
        assert 1 == ingress.log().count("requests go on without it")
        upgrade(ingress.database_url)
        ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "postgres"))


def test_read_only_postgres(ingress: "Ingress") -> None:
    """It answers every question and keeps nothing: events are spooled until it may be written again."""
    assert (204, "postgres") == durability(ingress.imin(b"{}"))
    with read_only(ingress):
        ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "spool"))
        time.sleep(1.2)
        assert (204, "spool") == durability(ingress.imin(b"{}"))
        assert (200, {"postgres": "away", "redis": "ok"}) == ready(ingress)
    ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "postgres"))


@contextlib.contextmanager
def read_only(ingress: "Ingress") -> Iterator[None]:
    """Every transaction that begins now may only read."""
    ingress.rows("ALTER SYSTEM SET default_transaction_read_only = on")
    ingress.rows("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        ingress.rows("ALTER SYSTEM RESET default_transaction_read_only")
        ingress.rows("SELECT pg_reload_conf()")


def test_late_commit(ingress: "Ingress", freezable_postgres: "Server", client: "redis.Redis") -> None:
    """A commit that was given up may succeed after all: under the id that was spooled, so it is there once."""
    # Both connections must have prepared their statement, so that it is the INSERT itself that waits for the lock.
    prepared = "SELECT FROM pg_stat_activity WHERE query LIKE '%INSERT INTO events%' AND pid <> pg_backend_pid()"
    ingress.until(lambda: asyncio.run(steadily(ingress, rate=1000, seconds=0.05)) and len(ingress.rows(prepared)) == 2)
    reply = asyncio.run(_given_up_at_a_lock(ingress, freezable_postgres))
    assert (204, "spool") == durability(reply)
    (spooled,) = [fields for _, fields in client.xrange(SPOOL)]
    assert str(reply.header("x-penstock-event")).encode() in spooled[b"event-1"]


async def _given_up_at_a_lock(ingress: "Ingress", freezable_postgres: "Server") -> "Reply":
    """Hold the INSERT of a delivery at a lock until its sender was answered; then see it succeed."""
    lock = await asyncpg.connect(ingress.database_url)
    watcher = await asyncpg.connect(ingress.database_url)
    try:
        async with asyncio.timeout(HANG_SECONDS), lock.transaction():
            await lock.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            posting = asyncio.create_task(asyncio.to_thread(ingress.imin, b"late"))
            while not await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                pass
            # The request to cancel the INSERT, which follows it, needs the parent process; so does every probe.
            os.kill(freezable_postgres.process.pid, signal.SIGSTOP)
            reply = await posting
        kept = "SELECT count(*) FROM events WHERE id::text = $1 AND durability = 'postgres'"
        async with asyncio.timeout(HANG_SECONDS):
            while not await watcher.fetchval(kept, reply.header("x-penstock-event")):
                pass
        return reply
    finally:
        freezable_postgres.wake()
        lock.terminate()
        watcher.terminate()


def test_both_away(ingress: "Ingress", freezable_postgres: "Server", spooling_redis: "Server") -> None:
    """503 within 4 s, and at once when both are known to be away; either one's return is enough."""
    assert (204, "postgres") == durability(ingress.imin(b"{}"))
    freezable_postgres.freeze()
    spooling_redis.freeze()
    reply, took = timed(lambda: ingress.imin(b"{}"))
    assert (503, None) == durability(reply)
    assert reply.header("retry-after")
    assert took < 4.5 + ingress.own_seconds()
    reply, known = timed(lambda: ingress.imin(b"{}"))
    assert 503 == reply.status
    # Neither store is waited for: each may take about two seconds.
    assert known < took / 2
    assert (503, {"postgres": "away", "redis": "away"}) == ready(ingress)
    spooling_redis.wake()
    ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "spool"))
    spooling_redis.freeze()
    ingress.until(lambda: ingress.imin(b"{}").status == 503)
    freezable_postgres.wake()
    ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "postgres"))
    spooling_redis.wake()


def test_redis_that_restarts_while_it_is_needed(
    ingress: "Ingress", freezable_postgres: "Server", spooling_redis: "Server", tmp_path: Path, client: "redis.Redis"
) -> None:
    """What was acknowledged is there after its restart, and spooling goes on by itself."""
    freezable_postgres.freeze()
    assert (204, "spool") == durability(ingress.imin(b"{}"))
    spooling_redis.process.kill()
    spooling_redis.process.wait(HANG_SECONDS)
    assert 503 == ingress.imin(b"{}").status
    with running_redis(tmp_path / "redis", int(spooling_redis.url.split(":")[2].split("/")[0]), *KEEPS):
        assert 1 == client.xlen(SPOOL)
        ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "spool"))
        assert 2 == client.xlen(SPOOL)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("appendonly", "no"), ("maxmemory", "1"), ("maxmemory-policy", "allkeys-lru")],
)
def test_redis_that_would_lose_events(
    ingress: "Ingress", freezable_postgres: "Server", client: "redis.Redis", setting: str, value: str
) -> None:
    """Without append-only file or memory, or where any key may be evicted, nothing is acknowledged from the spool."""
    if setting == "maxmemory-policy":
        client.config_set("maxmemory", "100mb")
    client.config_set(setting, value)
    assert (204, "postgres") == durability(ingress.imin(b"{}"))
    freezable_postgres.freeze()
    reply, took = timed(lambda: ingress.imin(b"{}"))
    assert (503, None) == durability(reply)
    assert took < 4.5 + ingress.own_seconds()
    assert (503, {"postgres": "away", "redis": "ok"}) == ready(ingress)
    client.config_set("appendonly", "yes")
    client.config_set("maxmemory", "0")
    ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "spool"))
    # It does not end before its first append-only file is written.
    ingress.until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])


def test_large_bodies(ingress: "Ingress", freezable_postgres: "Server", client: "redis.Redis") -> None:
    """The spool holds the key of a large body, which lies complete in the blob store."""
    freezable_postgres.freeze()
    ingress.until(lambda: durability(ingress.imin(b"{}")) == (204, "spool"))
    before = client.xlen(SPOOL)
    assert (204, "spool") == durability(ingress.imin(bytes(200_000)))
    assert 1 == len(ingress.blobs())
    (ingress.data / "blobs").rename(ingress.data / "away")
    (ingress.data / "blobs").write_text("in the way", encoding="utf-8")
    assert 503 == ingress.imin(bytes(200_000)).status
    assert before + 1 == client.xlen(SPOOL)
    assert (204, "spool") == durability(ingress.imin(b"{}"))


def test_the_bound(ingress: "Ingress", freezable_postgres: "Server", client: "redis.Redis") -> None:
    """Half of what Redis may use is for the spool: then it is 503, while the queues still have room."""
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", used + 4_000_000)
    half = (used + 4_000_000) // 2
    freezable_postgres.freeze()
    statuses = []
    while not statuses or statuses[-1] == 204:
        statuses.append(ingress.imin(bytes(60_000)).status)
    assert 503 == statuses[-1]
    assert (len(statuses) - 1) * 60_000 < half < len(statuses) * 61_500
    assert client.lpush("penstock.imin", "x" * 1000)


def test_a_stopping_ingress_spools_what_it_holds(
    ingress: "Ingress", freezable_postgres: "Server", client: "redis.Redis"
) -> None:
    """SIGTERM while a commit hangs: the request is answered from the spool before the process ends."""
    assert (204, "postgres") == durability(ingress.imin(b"{}"))
    freezable_postgres.freeze()
    wire = ingress.wire()
    wire.send(b"POST /webhooks/imin HTTP/1.1\r\nHost: x\r\nX-Api-Key: imin-key\r\nContent-Length: 4\r\n\r\nbody")
    time.sleep(0.3)
    ingress.process.terminate()
    assert (204, "spool") == durability(wire.reply())
    ingress.process.wait(HANG_SECONDS)
    assert 1 == client.xlen(SPOOL)
