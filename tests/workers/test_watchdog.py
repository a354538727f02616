"""A worker that takes no messages any more is noticed and replaced; one that cannot take any is left alone."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
from celery import Celery
from celery.worker import state
from prometheus_client import CollectorRegistry

from ops.supervisor.children import Child
from ops.supervisor.heartbeat import Heartbeat
from redis_faults.api import CALLS, running_api
from redis_faults.bench import Bench, running_bench
from shared.configuration import Timing
from shared.providers.registry import PROVIDERS
from shared.publishing import celery_settings
from support.conditions import HANG_SECONDS, until
from workers.forking import FORK_LOCK
from workers.health.canary import Canary
from workers.health.metrics import WorkerMetrics
from workers.health.watchdog import Occupied, Verdict, Watchdog


def _replaced(child: Child, bench: Bench) -> list[str]:
    """Tend the child until another process runs, and wait until that one works; what there was to tell."""
    told: list[str] = []
    before = bench.worker

    def other() -> bool:
        told.extend(filter(None, [child.tend()]))
        return child.process is not before

    until(other, otherwise="it is not replaced")
    assert child.process
    bench.worker = child.process
    bench.wait_until_worked()
    return told


def test_a_worker_that_takes_no_messages_ends_and_is_replaced(tmp_path: Path, database_url: str) -> None:
    """Its canary tells, though the process is up, its heartbeat goes on and both stores answer; one line says so."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    heartbeat = tmp_path / "heartbeat"
    options = ("--heartbeat", str(heartbeat), "--metrics-port", str(port))
    with running_api() as api, running_bench(tmp_path, database_url, api, *options) as bench:
        address = f"http://127.0.0.1:{port}"
        assert 200 == httpx.get(f"{address}/health/live", trust_env=False).status_code
        age = httpx.get(f"{address}/metrics", trust_env=False).text.partition("canary_age_seconds{")[2].splitlines()[0]
        assert float(age.split()[1]) < 10
        child = Child(bench.worker.program, process=bench.worker, heartbeat=Heartbeat(heartbeat))
        control = Celery("test", set_as_current=False)
        control.conf.update(celery_settings(bench.redis.url, Timing(), PROVIDERS))
        ((_, queues),) = until(control.control.inspect(timeout=3).active_queues).items()

        for queue in queues:
            until(lambda name=queue["name"]: control.control.cancel_consumer(name, reply=True, timeout=3))
        control.close()
        told = _replaced(child, bench)

        assert "worker-imin ended (exit status" in told[0]
        assert 1 == bench.log.count("the worker takes no messages although both stores answer and it has room")


def test_a_worker_that_stands_still_is_killed_and_replaced(tmp_path: Path, database_url: str) -> None:
    """Its own watchdog stands still with it; the supervisor hears no heartbeat, asks it to end, and kills it."""
    heartbeat = tmp_path / "heartbeat"
    options = ("--heartbeat", str(heartbeat))
    with running_api() as api, running_bench(tmp_path, database_url, api, *options) as bench:
        child = Child(bench.worker.program, process=bench.worker, heartbeat=Heartbeat(heartbeat, silent=4))
        still = bench.worker.pid
        os.kill(still, signal.SIGSTOP)

        told = _replaced(child, bench)

        assert f"worker-imin (process {still}) gave no sign of life for 4 s" in told[0]
        assert f"worker-imin ended (signal {signal.SIGKILL.value})" in told[1]


def test_a_worker_that_is_asked_to_end_while_redis_is_away_ends(tmp_path: Path, database_url: str) -> None:
    """It waits for no Redis to say goodbye to, and leaves no child behind."""
    with running_api() as api, running_bench(tmp_path, database_url, api) as bench:
        children = Path(f"/proc/{bench.worker.pid}/task/{bench.worker.pid}/children").read_text().split()
        assert bench.redis.process
        os.kill(bench.redis.process.pid, signal.SIGSTOP)
        # Long enough that the event of every two seconds waits for its answer; no log line and no figure tells of it.
        time.sleep(8)
        os.kill(bench.redis.process.pid, signal.SIGKILL)
        time.sleep(2)

        bench.worker.stop()

        assert bench.worker.wait(HANG_SECONDS)
        until(
            lambda: not any(Path(f"/proc/{child}").exists() for child in children), otherwise="a child is left behind"
        )


def test_what_a_killed_child_held_is_due_again_long_before_its_lease_lapses(tmp_path: Path, database_url: str) -> None:
    """Its parent ends the lease; there is no relay here, and the other child makes the call anew."""
    with running_api() as api, running_bench(tmp_path, database_url, api) as bench:
        customer, event = bench.start_running(20)

        os.kill(bench.process_that_calls(), signal.SIGKILL)
        until(lambda: bench.suspects() == 1, otherwise="the dead child's call is still its own")
        bench.queue("imin", event)

        # Only this frees it: a lease that lapses is for the relay to find.
        assert "a child died; its work is due again" in bench.log
        until(lambda: CALLS[customer] == 2, otherwise=f"nobody makes the call anew:\n{bench.log[-4000:]}")


def test_no_child_is_forked_while_the_watchdog_talks_to_redis() -> None:
    """It would have the locks of that conversation, and stand still with them."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        redis_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        app = Celery("test", broker=redis_url, set_as_current=False)
        app.conf.task_queues = []
        canary = Canary(app, redis_url)
        watchdog = Watchdog(canary, Occupied(1, 60), WorkerMetrics("test", CollectorRegistry()), "", None)
        talking = threading.Thread(target=watchdog._tick)
        talking.start()
        connection, _ = silent.accept()

        assert FORK_LOCK.locked()
        connection.close()

    talking.join(HANG_SECONDS)
    assert not FORK_LOCK.locked()


def test_a_canary_is_overdue_only_after_the_patience() -> None:
    """Seen or excused, it begins anew."""
    seen = time.monotonic()
    verdict = Verdict(lambda: seen, patience=2.0)
    assert 0.0 == verdict.overdue()
    until(verdict.overdue, otherwise="never overdue")
    verdict.excuse()
    assert 0.0 == verdict.overdue()
    until(verdict.overdue, otherwise="never overdue again")
    seen = time.monotonic()
    assert 0.0 == verdict.overdue()


class _Request:
    """Stands for a task that a child works on."""

    id = name = "one"


def test_a_worker_is_occupied_when_every_child_works_and_no_longer_than_a_task_may_last() -> None:
    """Half of them is not all; and no task outlives its limit, so what is busy for longer is broken."""
    occupied = Occupied(children=2, longest=2.0)
    requests = [_Request(), _Request()]
    try:
        state.active_requests.add(requests[0])
        assert not occupied()
        state.active_requests.add(requests[1])
        assert occupied()
        until(lambda: not occupied(), otherwise="it is believed for ever")
        state.all_total_count[0] += 1
        assert occupied()
    finally:
        for request in requests:
            state.active_requests.discard(request)
