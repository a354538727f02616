"""A refresh of Paybook: every page of a credential's transactions read and stored, beside ``dlt`` and ``copy``."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import httpx
import msgspec

from ops.bench import penstock
from ops.bench.asking import value
from ops.bench.deliveries import request, write
from ops.bench.load import Order
from ops.bench.penstock import Subject
from ops.bench.proc import peak_bytes
from ops.bench.profile import Profiles
from ops.bench.results import Figure, Report, over
from ops.bench.schedule import turns
from ops.bench.stage import BenchFailed, Stage
from ops.bench.statistics import Target
from ops.lab.limits import Limit
from ops.lab.paybook_world import SEED_CREDENTIAL, SEED_USER
from ops.lab.process import Lab


PAGE_ROWS: Final = 5000
OVER_DLT: Final = Target(5, at_least=True)
OVER_COPY: Final = Target(0.35, at_least=True)
UNCHANGED_OVER_FIRST: Final = Target(1.5, at_least=True)
MEMORY_MIB: Final = Target(250, at_least=False)
_MIB: Final = 1024 * 1024
_LOOK_SECONDS: Final = 0.2


def refresh(stage: Stage) -> Sequence[Report]:
    """A first refresh, one with nothing changed, and the memory of the worker's processes meanwhile."""
    pages, rounds = (12, 1) if stage.quick else (200, 3)
    rows = pages * PAGE_ROWS
    lab = stage.lab()
    lab.set_limits({"paybook": Limit(calls=0, seconds=1.0)})
    lab.set_refresh_size(limit=PAGE_ROWS)
    lab.set_refresh_size(credential=SEED_CREDENTIAL, transactions=rows, attachments=0)
    _read_pages(lab, pages)
    rates: dict[str, list[float]] = {"penstock": [], "dlt": [], "copy": []}
    numbered: list[float] = []
    again: list[float] = []
    peaks: list[float] = []
    for number, subject in turns(list(rates), rounds):
        stage.say(f"round {number + 1} of {rounds}: {subject}")
        match subject:
            case "penstock":
                first, in_feed, second, peak = _penstock(stage, lab, rows)
                rates[subject].append(first)
                numbered.append(in_feed)
                again.append(second)
                peaks.append(peak)
            case "dlt":
                rates[subject].append(_dlt(stage, lab, rows))
            case _:
                rates[subject].append(_copy(stage, lab, pages))
    if stage.profiles.active:
        # Once more: who is watched is slower, and the yardsticks are not.
        stage.say("once more for the profile")
        _penstock(stage, lab, rows, profiles=stage.profiles)
    conditions = {
        "rows": f"{rows:,} transactions in {pages} pages of {PAGE_ROWS}, about 600 bytes each; {rounds} round(s)",
        "limits": "the lab's limit and the account's budget are lifted; the lab makes each page when it is asked for",
        "penstock": f"{penstock.WORKER_PROCESSES} worker processes; from the delivery to its event's end",
        "nothing changed": "begins when the relay has numbered all changes of the first time",
        "dlt": "REST source, write disposition merge by id_transaction; the library's own defaults",
        "copy": "two pages at a time, each row's text by COPY into (id primary key, data jsonb)",
    }
    return [
        Report(
            "paybook-refresh",
            "Rows a second of a Paybook refresh",
            [
                over("over dlt", rates["penstock"], rates["dlt"], OVER_DLT),
                over("over copy", rates["penstock"], rates["copy"], OVER_COPY),
                over("unchanged, over the first time", again, rates["penstock"], UNCHANGED_OVER_FIRST),
                *(
                    Figure(subject, "rows/s", found, yardstick=subject != "penstock")
                    for subject, found in rates.items()
                ),
                Figure("penstock, until its changes are numbered too", "rows/s", numbered),
                Figure("penstock, nothing changed", "rows/s", again),
            ],
            conditions,
            stage.profiles.take(),
        ),
        Report(
            "worker-memory",
            "The most resident memory that a worker process had in that refresh",
            [Figure("peak of a process", "MiB", peaks, MEMORY_MIB)],
            conditions,
        ),
    ]


def _read_pages(lab: Lab, pages: int) -> None:
    """Have the lab make each page once: those that it can keep, it keeps for everybody alike."""
    order = _reading(lab)
    with httpx.Client(base_url=order["base_url"], headers={"Authorization": order["authorization"]}) as client:
        for place in range(pages):
            query = {"id_credential": order["credential"], "limit": PAGE_ROWS, "skip": place * PAGE_ROWS, "wbhk": 1}
            client.get("/v1/transactions", params=query).raise_for_status()


def _penstock(stage: Stage, lab: Lab, rows: int, profiles: Profiles | None = None) -> tuple[float, float, float, float]:
    """Rows a second: first, until its changes are numbered too, unchanged; then the most memory of a process (MiB)."""
    subject = penstock.start(stage, penstock.config_for(lab, budgets=False), worker="paybook")
    stage.ready()
    with _watched(subject) as peaks:
        # The first task of each process pays for imports and connections; that is not what is asked here.
        with profiles.of(worker=subject.task_pids()[0]) if profiles else nullcontext():
            began, ended = _follow_up(stage, lab, subject, "first")
        first = rows / (ended - began)
        subject.number()
        numbered = rows / (time.time() - began)
        with profiles.of(unchanged=subject.task_pids()[0]) if profiles else nullcontext():
            began, ended = _follow_up(stage, lab, subject, "second")
        second = rows / (ended - began)
    stored = value(subject.database_url, "SELECT count(*) FROM records WHERE kind = 'paybook.transaction'")
    if stored != rows:
        raise BenchFailed(f"{stored} transactions are stored, not {rows}")
    for process in subject.processes.values():
        stage.stop(process)
    stage.stores.drop_one(subject.database_url)
    return first, numbered, second, max(peaks.values()) / _MIB


def _follow_up(stage: Stage, lab: Lab, subject: Subject, name: str) -> tuple[float, float]:
    """When a refresh delivery was sent and when its event ended, in unix time."""
    delivery = lab.happen("paybook", "refresh", credential=SEED_CREDENTIAL, new=0, changed=0)
    requests = write(stage.folder, name, [request(delivery.path, delivery.headers, delivery.body)])
    outcome = stage.load(Order(port=subject.port, requests=requests, connections=1, count=1))
    return outcome.began, subject.finish()


@contextmanager
def _watched(subject: Subject) -> Iterator[dict[int, int]]:
    """The peak of each process of the worker, also of those that are replaced meanwhile."""
    peaks: dict[int, int] = {}
    ended = threading.Event()

    def look() -> None:
        for pid in subject.task_pids():
            peaks[pid] = max(peaks.get(pid, 0), peak_bytes(pid))

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        look()
        ended.set()
        thread.join()


def _dlt(stage: Stage, lab: Lab, rows: int) -> float:
    database_url = stage.stores.database(migrated=False)
    order = {
        **_reading(lab),
        "limit": PAGE_ROWS,
        "database_url": database_url,
        "folder": str(stage.folder / f"dlt-{time.monotonic_ns()}"),
    }
    took = _yardstick("with_dlt", order, {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"})
    stage.stores.drop_one(database_url)
    return rows / took


def _copy(stage: Stage, lab: Lab, pages: int) -> float:
    database_url = stage.stores.database(migrated=False)
    order = {**_reading(lab), "limit": PAGE_ROWS, "pages": pages, "database_url": database_url}
    took = _yardstick("with_copy", order, {})
    stage.stores.drop_one(database_url)
    return pages * PAGE_ROWS / took


def _reading(lab: Lab) -> dict[str, Any]:
    (account,) = (each for each in lab.accounts() if each.provider == "paybook")
    authorization = f"api_key api_key={account.api_key},id_user={SEED_USER}"
    return {"base_url": account.base_url, "authorization": authorization, "credential": SEED_CREDENTIAL}


def _yardstick(name: str, order: dict[str, Any], environment: dict[str, str]) -> float:
    """The seconds that a yardstick program prints. Raises BenchFailed."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", f"ops.bench.yardsticks.{name}", msgspec.json.encode(order).decode()],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=3600,
    )
    if done.returncode:
        raise BenchFailed(f"the yardstick {name} failed: {done.stderr.decode().strip()[-800:]}")
    return float(done.stdout.splitlines()[-1])
