"""The yardsticks that are servers, started as their users start them."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.bench.asking import value
from ops.bench.penstock import WORKER_PROCESSES
from ops.bench.stage import Stage, free_port
from ops.lab.accounts import Account
from ops.supervisor.process import Process


_PACKAGE = "ops.bench.yardsticks"


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A started yardstick: where it takes deliveries, its database (if it has one), and its processes."""

    port: int
    database_url: str
    processes: Mapping[str, Process]

    def unfinished(self) -> int:
        """How many deliveries still wait for their follow-up."""
        return int(value(self.database_url, "SELECT count(*) FROM deliveries WHERE status <> 'done'"))

    def last_finished(self) -> float:
        """The unix time at which the last follow-up was finished."""
        return float(value(self.database_url, "SELECT extract(epoch FROM max(finished_at)) FROM deliveries"))


def start_bare(stage: Stage, account: Account) -> Yardstick:
    """``bare`` under uvicorn with its fast parts (uvloop, httptools) and without an access log."""
    port = free_port()
    process = stage.start("bare", _uvicorn("bare:app", port), {**os.environ, "YARDSTICK_KEY": account.webhook_key})
    stage.expect_listening(port, process)
    return Yardstick(port, "", {"ingress": process})


def start_usual(stage: Stage, account: Account, *, worker: bool) -> Yardstick:
    """``usual`` under uvicorn, and its Celery worker with as many processes as Penstock's."""
    port = free_port()
    database_url = stage.stores.database(migrated=False)
    environment = {
        **os.environ,
        "YARDSTICK_KEY": account.webhook_key,
        "YARDSTICK_API_KEY": account.api_key,
        "YARDSTICK_DATABASE_URL": database_url.replace("postgresql://", "postgresql+psycopg://"),
        "YARDSTICK_REDIS_URL": stage.stores.redis(),
    }
    tables = stage.start("tables", [sys.executable, "-m", f"{_PACKAGE}.usual.models"], environment)
    stage.expect(lambda: tables.ended() == 0, "the tables of the usual receiver")
    processes = {"ingress": stage.start("usual", _uvicorn("usual.app:app", port), environment)}
    if worker:
        processes["worker"] = stage.start("celery", _celery(), environment)
    stage.expect_listening(port, processes["ingress"])
    if worker:
        log = processes["worker"].program.log
        stage.expect(lambda: b" ready." in log.read_bytes(), "the usual worker", processes["worker"])
    return Yardstick(port, database_url, processes)


def _uvicorn(app: str, port: int) -> Sequence[str]:
    parts = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", f"{_PACKAGE}.{app}", "--port", str(port), *parts]


def _celery() -> Sequence[str]:
    app = f"{_PACKAGE}.usual.tasks"
    return [sys.executable, "-m", "celery", "-A", app, "worker", "--concurrency", str(WORKER_PROCESSES), "-l", "INFO"]
