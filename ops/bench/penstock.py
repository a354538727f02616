"""Penstock itself as a subject: chosen processes of an installation, everything that belongs to them switched on."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import httpx

from ops.bench.asking import LOOK_SECONDS, value
from ops.bench.load import HOST
from ops.bench.proc import family
from ops.bench.stage import BenchFailed, Stage, free_port
from ops.lab.process import Lab
from ops.supervisor.process import Process
from shared.sealing import generate_key


WORKER_PROCESSES: Final = 2
FINISH_SECONDS: Final = 900.0
_NUMBERED_SECONDS: Final = 0.1
"""Nothing says afterwards when the last change was numbered, so this is looked at more often."""

_UNFINISHED: Final = "SELECT EXISTS (SELECT FROM events WHERE state IN ('received', 'processing', 'waiting'))"
_UNNUMBERED: Final = "SELECT EXISTS (SELECT FROM changes WHERE seq IS NULL)"
_NOT_DONE: Final = "SELECT count(*) FROM events WHERE state IN ('parked', 'failed', 'quarantined')"
# Among the newest lines: however many there are, an index leads to them.
_LAST_STEP: Final = """
    SELECT extract(epoch FROM max(at)) FROM (SELECT at FROM timeline ORDER BY id DESC LIMIT 1000) AS newest
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A started Penstock: where it takes deliveries, its database, its processes by role, and their environment."""

    port: int
    database_url: str
    processes: Mapping[str, Process]
    settings: Mapping[str, str]

    def task_pids(self) -> list[int]:
        """The processes in which the worker's tasks run, without their parent."""
        return family(self.processes["worker"].pid)[1:]

    def finish(self, seconds: float = FINISH_SECONDS) -> float:
        """Wait until every event is finished; the unix time of the last one's end, by the database's clock."""
        deadline = time.monotonic() + seconds
        self._until_none(_UNFINISHED, "finish its events", deadline, LOOK_SECONDS)
        if bad := value(self.database_url, _NOT_DONE):
            raise BenchFailed(f"{bad} events did not end as done")
        return float(value(self.database_url, _LAST_STEP))

    def number(self, seconds: float = FINISH_SECONDS) -> None:
        """Wait until the relay has numbered every change."""
        self._until_none(_UNNUMBERED, "number its changes", time.monotonic() + seconds, _NUMBERED_SECONDS)

    def _until_none(self, query: str, what: str, deadline: float, every: float) -> None:
        while value(self.database_url, query):
            if time.monotonic() > deadline:
                raise BenchFailed(f"Penstock did not {what} in time")
            time.sleep(every)


def environment(stage: Stage, config: str, database_url: str, redis_url: str) -> dict[str, str]:
    """The settings of a throw-away installation; metrics go where `penstock up` has them go: into files."""
    folder = stage.folder / f"data-{time.monotonic_ns()}"
    metrics = folder / "metrics"
    metrics.mkdir(parents=True)
    file = folder / "penstock.toml"
    file.write_text(config, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {
        **kept,
        "PENSTOCK_CONFIG": str(file),
        "PENSTOCK_DATA_DIR": str(folder),
        "PENSTOCK_DATABASE_URL": database_url,
        "PENSTOCK_REDIS_URL": redis_url,
        "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        "PENSTOCK_LOG_FORMAT": "json",
        "PENSTOCK_METRICS_PORT": "0",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
    }


def config_for(lab: Lab, *, budgets: bool = True) -> str:
    """A ``penstock.toml`` with the lab's accounts; without ``budgets`` Paybook's published limit is lifted."""
    text = lab.config_toml()
    if budgets:
        return text
    return text.replace("[[paybook.accounts]]\n", "[[paybook.accounts]]\nbudget = { calls = 0 }\n")


def start(
    stage: Stage,
    config: str,
    *,
    worker: str = "",
    database_url: str = "",
    redis_url: str = "",
    concurrency: int = WORKER_PROCESSES,
) -> Subject:
    """Start ingress and, with ``worker`` (a provider), its worker of two processes and a relay."""
    database_url = database_url or stage.stores.database()
    settings = environment(stage, config, database_url, redis_url or stage.stores.redis())
    port = free_port()
    roles = {"ingress": command("ingress", "--port", str(port), "--metrics-port", "0")}
    if worker:
        roles["worker"] = command("worker", worker, "--concurrency", str(concurrency))
        roles["relay"] = command("relay")
    processes = {role: stage.start(role, argv, settings) for role, argv in roles.items()}
    stage.expect(lambda: _ready(port), "Penstock's ingress", processes["ingress"])
    if worker:
        stage.expect(lambda: leases(database_url) >= concurrency, "Penstock's worker", processes["worker"])
    return Subject(port, database_url, processes, settings)


def another_worker(stage: Stage, subject: Subject, provider: str) -> Process:
    """Start one more worker of one process, and wait until it has taken up work."""
    before = leases(subject.database_url)
    process = stage.start("another-worker", command("worker", provider, "--concurrency", "1"), subject.settings)
    stage.until(lambda: leases(subject.database_url) > before, "another worker", process)
    return process


def leases(database_url: str) -> int:
    """How many worker processes have taken up work."""
    return int(value(database_url, "SELECT count(*) FROM worker_processes"))


def command(*arguments: str) -> Sequence[str]:
    """How a process of Penstock is started."""
    return [sys.executable, "-m", "ops", *arguments]


def _ready(port: int) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://{HOST}:{port}/health/ready", trust_env=False).status_code == httpx.codes.OK
    return False
