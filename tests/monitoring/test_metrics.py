"""What workers and the relay measure, on real stores, and one page for all processes that lives on when they end."""

import asyncio
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import orjson
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from installation import ROOT
from shared.configuration import Timing
from shared.metric_files import page_of
from shared.providers.interface import Call, Outcome
from shared.publishing import Publisher
from shared.queue import plan_task, queue_of
from shared.store.fetching import ClaimedFetch, Result
from shared.store.inbox import NewEvent, insert
from shared.store.planning import ClaimedEvent
from shared.watching import ConfigurationWatch
from support.conditions import HANG_SECONDS, until
from workers.follow_up.metrics import FollowUpMetrics
from workers.relay.gauging import Gauging
from workers.relay.metrics import RelayMetrics


if TYPE_CHECKING:
    from ops.embedded.redis import Redis

CALL = Call(path="/customers/1", purpose="customer")
ACCOUNT = """
[[imin.accounts]]
name = "main"
webhook_keys = ["a-key-that-imin-sends-to-us"]
api_key = "a-key-that-we-send-to-imin"
base_url = "http://127.0.0.1:9"
"""


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """One sample."""
    return registry.get_sample_value(name, labels)


def claimed(*, background: bool = False) -> ClaimedEvent:
    """An event that has just come in."""
    return ClaimedEvent(uuid7(), "imin", "main", 1, "application/json", b"", None, background=background)


def test_a_worker_tells_how_long_events_wait_and_take() -> None:
    """Queue and result are measured from the receipt, which the event's id holds; replays wait for their turn."""
    registry = CollectorRegistry()
    metrics = FollowUpMetrics(registry)
    metrics.taken_up("imin", [claimed(), claimed(), claimed(background=True)])
    metrics.done("imin", [claimed().id])
    assert 2 == value(registry, "penstock_queue_seconds_count", provider="imin")
    assert 2 == value(registry, "penstock_queue_seconds_bucket", provider="imin", le="5.0")
    assert 1 == value(registry, "penstock_result_seconds_count", provider="imin")


def test_a_worker_tells_what_came_of_calls() -> None:
    """Calls by class of status, fetches by end, attempts of those that are over, as soon as they are stored."""
    registry = CollectorRegistry()
    metrics = FollowUpMetrics(registry)
    fetch = ClaimedFetch(1, "imin", "main", 1, 3, CALL)
    results = [
        Result(fetch, "done", Outcome(), 200),
        Result(fetch, "waiting", status=503),
        Result(fetch, "waiting", called=False),
        Result(fetch, "failed", status=410),
    ]
    for status in (200, 503, 410, None):
        metrics.called("imin", status, 0.02)
    assert value(registry, "penstock_api_calls_total", provider="imin", status="2xx") is None
    metrics.stored(results, 0.005)
    for status in ("2xx", "5xx", "4xx", "none"):
        assert 1 == value(registry, "penstock_api_calls_total", provider="imin", status=status)
    for end in ("done", "again", "put-off", "failed"):
        assert 1 == value(registry, "penstock_fetch_ends_total", provider="imin", end=end)
    assert 4 == value(registry, "penstock_fetch_seconds_count", provider="imin")
    assert 1 == value(registry, "penstock_apply_seconds_count", provider="imin")
    assert (2, 6) == tuple(
        value(registry, f"penstock_fetch_attempts_{what}", provider="imin") for what in ("count", "sum")
    )


async def keep_gauges(database_url: str, redis_url: str, config: Path, metrics: RelayMetrics) -> None:
    """Look once at both stores, and wait to be cancelled."""
    connection = await asyncpg.connect(database_url)
    try:
        async with Gauging(redis_url, ConfigurationWatch(config), metrics) as gauging:
            await gauging.ask_postgres(connection)
            await gauging.ask_redis()
            await asyncio.Event().wait()
    finally:
        await connection.close()


async def gauged(
    database_url: str, redis_url: str, config: Path, until_true: Callable[[CollectorRegistry], bool]
) -> CollectorRegistry:
    """What the relay's gauges show, once they show what is waited for."""
    registry = CollectorRegistry()
    keeping = asyncio.create_task(keep_gauges(database_url, redis_url, config, RelayMetrics(registry)))
    try:
        async with asyncio.timeout(HANG_SECONDS):
            while not until_true(registry):
                assert not keeping.done(), keeping.exception()
                await asyncio.sleep(0.05)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return registry


async def receive(database_url: str) -> None:
    """Keep one event that nobody follows up."""
    connection = await asyncpg.connect(database_url)
    try:
        event = NewEvent(uuid7(), "imin", "main", datetime.now(UTC), "postgres", "", [], b"x", None, 1, b"\0" * 32)
        await insert(connection, [event])
    finally:
        await connection.close()


def test_the_relay_tells_of_the_backlog(database_url: str, empty_redis: "Redis", tmp_path: Path) -> None:
    """Events by state, the oldest one's age, messages on the queues, and that nobody works."""
    config = tmp_path / "penstock.toml"
    config.write_text(ACCOUNT)
    asyncio.run(receive(database_url))
    registry = asyncio.run(
        gauged(
            database_url,
            empty_redis.url,
            config,
            # Postgres is asked first; where it did not answer in time, what Redis says is there alone.
            lambda shown: (
                value(shown, "penstock_queue_messages", queue="penstock.imin") is not None
                and value(shown, "penstock_events", provider="imin", state="received")
            ),
        )
    )
    assert 1 == value(registry, "penstock_events", provider="imin", state="received")
    assert 0 == value(registry, "penstock_events", provider="imin", state="failed")
    assert 0 == value(registry, "penstock_worker_processes", provider="imin")
    assert 0 == value(registry, "penstock_queue_messages", queue="penstock.imin")
    oldest = value(registry, "penstock_oldest_due_seconds", provider="imin")
    assert oldest is not None
    assert 0 < oldest < 60


def test_a_store_that_is_away_does_not_hide_the_other(database_url: str, tmp_path: Path) -> None:
    """Without Redis the backlog is told all the same."""
    config = tmp_path / "penstock.toml"
    config.write_text(ACCOUNT)
    registry = asyncio.run(
        gauged(
            database_url,
            "redis://127.0.0.1:1",
            config,
            lambda shown: value(shown, "penstock_oldest_due_seconds", provider="imin") is not None,
        )
    )
    assert value(registry, "penstock_queue_messages", queue="penstock.imin") is None


def test_a_circuit_that_closes_is_shown_closed() -> None:
    """Its figure goes back to 0: one that vanished from files would stay at 1."""
    registry = CollectorRegistry()
    metrics = RelayMetrics(registry)
    metrics.circuits({("imin", "main", "refused")})
    assert 1 == value(registry, "penstock_circuit_open", provider="imin", account="main", trouble="refused")
    metrics.circuits({("imin", "main", "down")})
    assert 0 == value(registry, "penstock_circuit_open", provider="imin", account="main", trouble="refused")
    assert 1 == value(registry, "penstock_circuit_open", provider="imin", account="main", trouble="down")


COUNT = """
from prometheus_client import Counter, Gauge, Histogram
Counter("made", "Things", ("kind",)).labels("a").inc(2)
Gauge("depth", "Now", multiprocess_mode="livemax").set(7)
Histogram("took", "Seconds", buckets=(1, 2)).observe(1.5)
"""


def test_what_ended_processes_counted_stays_in_one_file(tmp_path: Path) -> None:
    """Counts add up over any number of processes, gauges of the dead are gone, and files do not pile up."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    page = page_of(tmp_path)
    for ended in (1, 2, 3):
        subprocess.run([sys.executable, "-c", COUNT], check=True, env=environment, cwd=ROOT)
        for _ in range(2):
            families = {family.name: family for family in page.collect()}
            samples = {
                (sample.name, sample.labels.get("le", "")): sample.value
                for family in families.values()
                for sample in family.samples
            }
            assert {
                ("made_total", ""): 2 * ended,
                ("took_bucket", "1.0"): 0,
                ("took_bucket", "2.0"): ended,
                ("took_bucket", "+Inf"): ended,
                ("took_count", ""): ended,
                ("took_sum", ""): 1.5 * ended,
            } == samples
        assert {"counter_0.db", "histogram_0.db"} == {file.name for file in tmp_path.glob("*.db")}


def test_a_process_that_lives_keeps_its_file(tmp_path: Path) -> None:
    """Only the ended are folded together."""
    code = f"{COUNT}\nimport sys\nprint('ready', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        page = page_of(tmp_path)
        assert 7 == page.get_sample_value("depth")
        assert 2 == page.get_sample_value("made_total", {"kind": "a"})
        assert f"counter_{process.pid}.db" in {file.name for file in tmp_path.glob("*.db")}
        process.communicate()
    assert page.get_sample_value("depth") is None


def test_a_worker_alone_shows_its_childrens_figures_and_logs_json(
    database_url: str, redis: "Redis", tmp_path: Path
) -> None:
    """`--metrics-port` answers for the children, who do the work; all lines of the process are objects."""
    (tmp_path / "penstock.toml").write_text(ACCOUNT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    asyncio.run(receive(database_url))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PROMETHEUS_"))}
    log = tmp_path / "worker.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "ops", "worker", "imin", "--concurrency", "1", "--metrics-port", str(port)],
            cwd=tmp_path,
            env={
                **kept,
                "PYTHONPATH": str(ROOT),
                "TMPDIR": str(tmp_path),
                "PENSTOCK_DATABASE_URL": database_url,
                "PENSTOCK_REDIS_URL": redis.url,
                "PENSTOCK_ENCRYPTION_KEYS": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            },
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            Publisher(redis.url, Timing(), ["imin"]).publish(plan_task("imin"), queue_of("imin"), [[]])

            def told() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                        return 'penstock_queue_seconds_count{provider="imin"} 1.0' in answer.read().decode()
                except OSError:
                    return False

            until(told, otherwise=log.read_text)
        finally:
            process.terminate()
            process.wait(HANG_SECONDS)
    lines = log.read_text().splitlines()
    assert lines
    assert [] == [line for line in lines if not line.startswith("{")]
    for line in lines:
        orjson.loads(line)
    assert [] == list(tmp_path.glob("penstock-metrics-*"))
