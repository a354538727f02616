"""Whether it stays as fast when much is stored: a database full of finished events beside an empty one."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from ops.bench import penstock
from ops.bench.benchmarks.following_up import rate_of
from ops.bench.deliveries import BODY_BYTES, imin_requests, write
from ops.bench.filling import fill
from ops.bench.load import Order
from ops.bench.results import Figure, Report, over
from ops.bench.schedule import turns
from ops.bench.stage import Stage
from ops.bench.statistics import Target


P99_OVER_EMPTY: Final = Target(1.2, at_least=False)
RATE_OVER_EMPTY: Final = Target(0.85, at_least=True)
ACK_RATE: Final = 300


class Size(NamedTuple):
    """Finished events stored; then rounds, each of so many seconds in an open loop and so many deliveries at once."""

    stored: int
    rounds: int
    seconds: float
    deliveries: int


FULL = Size(10_000_000, 4, 10.0, 10_000)
QUICK = Size(100_000, 1, 2.0, 1000)


def growth(stage: Stage) -> Sequence[Report]:
    """Acknowledgement p99 and receipt to record, full and empty in turn."""
    stored, rounds, seconds, count = QUICK if stage.quick else FULL
    stored = stage.stored or stored
    stage.expect_room(stored)
    full = stage.stores.database()
    began = time.monotonic()
    asyncio.run(fill(full, stored, stage.say))
    filled = time.monotonic() - began
    lab = stage.lab()
    requests = write(stage.folder, "imin", imin_requests(lab.accounts()[0], 100_000))
    config = penstock.config_for(lab)
    subjects = {
        "empty": penstock.start(stage, config, worker="imin"),
        "full": penstock.start(stage, config, worker="imin", database_url=full),
    }
    stage.ready()
    for subject in subjects.values():
        rate_of(stage, subject, requests, 300, 0)
    p99: dict[str, list[float]] = {name: [] for name in subjects}
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    sent = 1000
    for number, name in turns(list(subjects), rounds):
        stage.say(f"round {number + 1} of {rounds}: {name}")
        subject = subjects[name]
        order = Order(port=subject.port, requests=requests, rate=ACK_RATE, seconds=seconds, first=sent)
        p99[name].append(stage.load(order).latency["p99"])
        subject.finish()
        sent += round(ACK_RATE * seconds)
        rates[name].append(rate_of(stage, subject, requests, count, sent))
        sent += count
    stage.stores.drop_one(full)
    return [
        Report(
            "growth",
            f"{stored:,} finished events stored, over none",
            [
                over("acknowledgement p99, over empty", p99["full"], p99["empty"], P99_OVER_EMPTY),
                over("receipt to record, over empty", rates["full"], rates["empty"], RATE_OVER_EMPTY),
                *(Figure(f"p99, {name}", "ms", values) for name, values in p99.items()),
                *(Figure(f"receipt to record, {name}", "events/s", values) for name, values in rates.items()),
            ],
            {
                "stored": f"{stored:,} events with their fetches, links and timelines, put there in {filled:.0f} s",
                "load": f"open loop at {ACK_RATE}/s for {seconds:g} s, then {count} deliveries as fast as taken;"
                f" {rounds} round(s)",
                "body": f"{BODY_BYTES} bytes (imin)",
                "workers": f"{penstock.WORKER_PROCESSES} processes and a relay each; the lab answers at once",
            },
            stage.profiles.take(),
        )
    ]
