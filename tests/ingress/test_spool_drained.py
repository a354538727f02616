"""The whole way: acknowledged from the spool by a real ingress, moved into Postgres by real relays."""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from shared.queue import queue_of
from shared.spool import BYTES, SPOOL
from shared.store.migrating import upgrade
from support.conditions import HANG_SECONDS
from tests.ingress.conftest import free_port, running_postgres, running_redis
from tests.ingress.delivering import Delivery, kept, sent, steadily


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Server, Start


ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_postgres(servers_folder: Path) -> Iterator["Server"]:
    """A Postgres that holds nothing but this test's events."""
    port = free_port()
    folder = servers_folder / f"own-{port}"
    folder.mkdir()
    folder.chmod(0o755)
    with running_postgres(folder, port) as server:
        upgrade(server.url)
        yield server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator["Server"]:
    """A Redis that keeps what it is given, as the embedded one does."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder, free_port(), "--appendonly", "yes", "--appendfsync", "always", "--save", "") as server:
        yield server


@pytest.fixture
def ingress(start_ingress: "Start", own_postgres: "Server", own_redis: "Server") -> Iterator["Ingress"]:
    """An ingress on both."""
    yield start_ingress(database_url=own_postgres.url, redis_url=own_redis.url)
    own_postgres.wake()


@contextlib.contextmanager
def relay(ingress: "Ingress", folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A relay process on the stores of this ingress."""
    with (folder / f"relay-{time.monotonic_ns()}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops", "relay"],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PENSTOCK_CONFIG": str(ingress.configuration),
                "PENSTOCK_DATA_DIR": str(ingress.data),
                "PENSTOCK_DATABASE_URL": ingress.database_url,
                "PENSTOCK_REDIS_URL": ingress.redis_url,
            },
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(HANG_SECONDS)


def test_ten_frozen_seconds(ingress: "Ingress", own_postgres: "Server", own_redis: "Server", tmp_path: Path) -> None:
    """Every request is acknowledged from the spool; when Postgres is awake it gets every body, once."""
    with relay(ingress, tmp_path) as running, redis.Redis.from_url(own_redis.url) as client:
        assert 204 == ingress.imin(b"{}").status
        own_postgres.freeze()
        deliveries = asyncio.run(steadily(ingress, rate=100, seconds=10))
        own_postgres.wake()
        assert {(204, "spool")} == {(each.status, each.durability) for each in deliveries}
        ingress.until(lambda: client.xlen(SPOOL) == 0)
        expected = sent(deliveries)
        assert expected == {event: digest for event, digest in kept(ingress).items() if event in expected}
        assert 1001 == ingress.count()
        assert [(1001, 1001)] == [
            tuple(row) for row in ingress.rows("SELECT count(*), count(DISTINCT event_id) FROM timeline")
        ]
        ingress.until(lambda: int(client.get(BYTES) or 0) == 0)
        assert client.llen(queue_of("imin"))
        assert running.poll() is None


def test_relays_that_are_killed_again_and_again(
    ingress: "Ingress", own_postgres: "Server", own_redis: "Server", tmp_path: Path
) -> None:
    """Whatever instruction a relay dies at, every event arrives once."""
    own_postgres.freeze()
    deliveries = asyncio.run(steadily(ingress, rate=350, seconds=7))
    own_postgres.wake()
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.xlen(SPOOL) > 2000
        # A slow Postgres makes the drain last, so that kills fall into it.
        ingress.rows(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001);"
            " RETURN NEW; END $$"
        )
        ingress.rows("CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()")
        for number in itertools.count():
            with relay(ingress, tmp_path):
                before = client.xlen(SPOOL)
                ingress.until(lambda: client.xlen(SPOOL) < before or not before)  # noqa: B023 - called at once
                time.sleep(0.1 * number)
            if not client.xlen(SPOOL):
                break
        assert number > 1
    assert {204} == {each.status for each in deliveries}
    expected = sent(deliveries)
    assert expected == kept(ingress)
    assert len(expected) == ingress.rows("SELECT count(*) FROM timeline")[0][0]


def test_read_only_postgres_ends_no_relay(ingress: "Ingress", own_redis: "Server", tmp_path: Path) -> None:
    """The relay waits, and drains when Postgres may be written again."""
    with relay(ingress, tmp_path) as running, redis.Redis.from_url(own_redis.url) as client:
        at_work = "SELECT FROM pg_stat_activity WHERE application_name = 'penstock relay'"
        ingress.until(lambda: ingress.rows(at_work))
        ingress.rows("ALTER SYSTEM SET default_transaction_read_only = on")
        ingress.rows("SELECT pg_reload_conf()")
        ingress.until(lambda: ingress.imin(b"{}").header("x-penstock-durability") == "spool")
        # Each of the relay's connections learns of it at a moment of its own.
        (log,) = tmp_path.glob("relay-*.log")
        ingress.until(lambda: ingress.imin(b"{}").status == 204 and '"duty": "drain-spool"' in log.read_text())
        deliveries: list[Delivery] = asyncio.run(steadily(ingress, rate=50, seconds=2))
        assert {"spool"} == {each.durability for each in deliveries}
        assert client.xlen(SPOOL) > 100
        assert running.poll() is None
        ingress.rows("ALTER SYSTEM RESET default_transaction_read_only")
        ingress.rows("SELECT pg_reload_conf()")
        ingress.until(lambda: client.xlen(SPOOL) == 0)
        assert sent(deliveries).items() <= kept(ingress).items()
