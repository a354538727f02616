"""A worker after each fault of its Redis: real processes, a Redis of their own, and nobody's hand.

All faults happen side by side, since most of their time is waiting: each test then looks at one.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.embedded.postgres import Postgres
from redis_faults.api import CALLS, running_api
from redis_faults.bench import Bench, running_bench
from redis_faults.databases import copies
from support.conditions import HANG_SECONDS, until
from workers.health.watchdog import PATIENCE_SECONDS


pytestmark = pytest.mark.xdist_group("reconnect")

RUNNING_SECONDS = 25.0


def restart(bench: Bench) -> None:
    """Gone for three seconds."""
    _stop_redis(bench)
    time.sleep(3)
    _start_redis(bench)


def stay_away(bench: Bench) -> None:
    """Gone for longer than the watchdog's patience."""
    _stop_redis(bench)
    time.sleep(PATIENCE_SECONDS + 5)
    _start_redis(bench)


def flap(bench: Bench) -> None:
    """Four restarts in about eight seconds."""
    for _ in range(4):
        _stop_redis(bench)
        time.sleep(0.5)
        _start_redis(bench)
        time.sleep(1.5)


def freeze(bench: Bench) -> None:
    """Stands still for twenty seconds, its connections open."""
    assert bench.redis.process
    os.kill(bench.redis.process.pid, signal.SIGSTOP)
    time.sleep(20)
    os.kill(bench.redis.process.pid, signal.SIGCONT)


def cut(bench: Bench) -> None:
    """Every connection of the worker falls silent without a FIN; new ones work."""
    bench.proxy.cut()


def turn_read_only(bench: Bench) -> None:
    """A failover makes the node a replica for eight seconds, then a primary again."""
    with bench.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        time.sleep(8)
        client.execute_command("REPLICAOF", "NO", "ONE")


def fill(bench: Bench) -> None:
    """No memory for a write during eight seconds."""
    with bench.client() as client:
        client.config_set("maxmemory", 1)
        time.sleep(8)
        client.config_set("maxmemory", 0)


def flush(bench: Bench) -> None:
    """Everything is gone."""
    with bench.client() as client:
        client.flushall()


FAULTS = (restart, stay_away, flap, freeze, cut, turn_read_only, fill, flush)


@dataclass(frozen=True)
class Recovery:
    """What became of a worker.

    ``meanwhile``: a new event was worked while the task still ran that ran during the fault; ``running_calls``: how
    often that task made its call.
    """

    meanwhile: bool
    running_calls: int
    same_process: bool
    log: str


def _undergo(fault: Callable[[Bench], None], folder: Path, database_url: str, api: str) -> Recovery:
    with running_bench(folder, database_url, api) as bench:
        customer, running = bench.start_running(RUNNING_SECONDS)
        fault(bench)
        bench.queue("imin", running)
        bench.wait_until_worked()
        meanwhile = bench.state(running) != "done"
        until(lambda: bench.state(running) == "done", otherwise="the task that ran is not done")
        return Recovery(meanwhile, CALLS[customer], bench.worker.ended() is None, bench.log[-6000:])


@pytest.fixture(scope="module")
def recoveries(
    postgres: Postgres, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[Recovery]"]]:
    """Fault -> its worker's recovery, under way."""
    folder = tmp_path_factory.mktemp("faults")
    databases = copies(postgres, template, len(FAULTS))
    with running_api() as api, ThreadPoolExecutor(len(FAULTS)) as threads:
        yield {
            fault.__name__: threads.submit(_undergo, fault, folder / fault.__name__, database, api)
            for fault, database in zip(FAULTS, databases, strict=True)
        }


def _recovered(recovery: Recovery) -> None:
    assert recovery.same_process, recovery.log
    assert 1 == recovery.running_calls


def test_redis_restarts_while_a_late_acknowledged_task_runs(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker lives, its running task is done once, and new events are worked by the other child meanwhile.

    This pins Celery below 5.7: 5.7.0 dies here of ``'NoneType' object has no attribute 'hostname'``.
    """
    recovery = recoveries["restart"].result()
    _recovered(recovery)
    assert recovery.meanwhile, recovery.log


def test_redis_is_away_for_longer_than_a_canary_may_be(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker is not blamed for it: the same process goes on, at its next try a few seconds later."""
    _recovered(recoveries["stay_away"].result())


def test_redis_restarts_four_times_in_eight_seconds(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker is back after the last one."""
    _recovered(recoveries["flap"].result())


def test_redis_stands_still_for_twenty_seconds(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker goes on when Redis does."""
    _recovered(recoveries["freeze"].result())


def test_connections_die_without_a_word(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker finds out by itself and connects anew, before its watchdog would end it."""
    _recovered(recoveries["cut"].result())


def test_redis_is_read_only_after_a_failover(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker takes it for a broken connection, not for an error of its own."""
    _recovered(recoveries["turn_read_only"].result())


def test_redis_is_out_of_memory(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker waits until there is room again."""
    _recovered(recoveries["fill"].result())


def test_redis_is_flushed(recoveries: dict[str, "Future[Recovery]"]) -> None:
    """The worker does not even notice."""
    _recovered(recoveries["flush"].result())


def _stop_redis(bench: Bench) -> None:
    assert bench.redis.process
    bench.redis.process.stop()
    assert bench.redis.process.wait(HANG_SECONDS)


def _start_redis(bench: Bench) -> None:
    bench.redis.spawn()
    until(bench.redis.answers, otherwise="Redis does not start")
