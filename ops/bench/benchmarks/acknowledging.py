"""How fast deliveries are acknowledged: as many as possible, and one at a time at a given rate."""

from collections.abc import Sequence
from typing import Final

from ops.bench import penstock
from ops.bench.deliveries import BODY_BYTES, imin_requests, write
from ops.bench.load import Order
from ops.bench.results import Figure, Report, over
from ops.bench.schedule import turns
from ops.bench.stage import Stage
from ops.bench.statistics import Target
from ops.bench.usual import start_bare, start_usual


CONNECTIONS: Final = 64
OVER_BARE: Final = Target(0.40, at_least=True)
OVER_USUAL: Final = Target(20, at_least=True)
P99_MS: Final = {60: Target(5, at_least=False), 300: Target(10, at_least=False), 1000: Target(25, at_least=False)}
"""Deliveries a second -> what the p99 must not exceed; the best peer publishes 13.5 and 34.5 ms for the first two."""


def throughput(stage: Stage) -> Sequence[Report]:
    """One ingress process in a closed loop, beside ``bare`` and ``usual``; no worker runs."""
    rounds, seconds = (2, 1.0) if stage.quick else (5, 6.0)
    lab = stage.lab()
    account = lab.accounts()[0]
    requests = write(stage.folder, "imin", imin_requests(account, 5000))
    ours = penstock.start(stage, penstock.config_for(lab))
    ports = {
        "penstock": ours.port,
        "bare": start_bare(stage, account).port,
        "usual": start_usual(stage, account, worker=False).port,
    }
    stage.ready()

    def order(subject: str, length: float) -> Order:
        return Order(port=ports[subject], requests=requests, connections=CONNECTIONS, seconds=length)

    rates: dict[str, list[float]] = {subject: [] for subject in ports}
    p99: list[float] = []
    for subject in ports:
        stage.load(order(subject, 0.5))
    for number, subject in turns(list(ports), rounds):
        stage.say(f"round {number + 1} of {rounds}: {subject}")
        outcome = stage.load(order(subject, seconds))
        rates[subject].append(outcome.rate)
        if subject == "penstock":
            p99.append(outcome.latency["p99"])
    with stage.profiles.of(ingress=ours.processes["ingress"].pid):
        if stage.profiles.active:
            stage.load(order("penstock", seconds))
    return [
        Report(
            "ack-throughput",
            "Acknowledged deliveries a second, one ingress process, enqueued and durable",
            [
                over("over bare", rates["penstock"], rates["bare"], OVER_BARE),
                over("over usual", rates["penstock"], rates["usual"], OVER_USUAL),
                *(
                    Figure(subject, "events/s", found, yardstick=subject != "penstock")
                    for subject, found in rates.items()
                ),
                Figure("penstock, p99", "ms", p99),
            ],
            {
                "load": f"closed loop, {CONNECTIONS} connections, {seconds:g} s a round, {rounds} rounds",
                "body": f"{BODY_BYTES} bytes (imin)",
                "penstock": "synchronous_commit on, bodies sealed, timeline, pointers to Redis (appendfsync always)",
                "bare": "Starlette under uvicorn: checks the key, reads the body, answers 204; keeps nothing",
                "usual": "FastAPI under uvicorn: SQLAlchemy insert, commit, task.delay(id)",
            },
            stage.profiles.take(),
        )
    ]


def latency(stage: Stage) -> Sequence[Report]:
    """Acknowledgement latency in an open loop, with workers that follow everything up."""
    rounds, seconds = (1, 2.0) if stage.quick else (4, 15.0)
    lab = stage.lab(latency=0.02)
    account = lab.accounts()[0]
    requests = write(stage.folder, "imin", imin_requests(account, 100_000))
    ours = penstock.start(stage, penstock.config_for(lab), worker="imin")
    stage.ready()
    found: dict[int, dict[str, list[float]]] = {rate: {"p50": [], "p99": [], "max": []} for rate in P99_MS}
    late: list[float] = []
    sent = 0
    stage.load(Order(port=ours.port, requests=requests, rate=300, seconds=1))
    for number, name in turns([str(rate) for rate in P99_MS], rounds):
        stage.say(f"round {number + 1} of {rounds}: {name}/s")
        rate = int(name)
        outcome = stage.load(Order(port=ours.port, requests=requests, rate=rate, seconds=seconds, first=sent))
        sent += round(rate * seconds)
        late.append(outcome.late)
        for share, values in found[rate].items():
            values.append(outcome.latency[share])
        ours.finish()
    return [
        Report(
            "ack-latency",
            "From the scheduled time of a delivery to its acknowledgement, workers running",
            [
                figure
                for rate, shares in found.items()
                for figure in (
                    Figure(f"{rate}/s, p99", "ms", shares["p99"], P99_MS[rate]),
                    Figure(f"{rate}/s, p50", "ms", shares["p50"]),
                    Figure(f"{rate}/s, slowest", "ms", shares["max"]),
                )
            ]
            + [Figure("the load behind its schedule, p99", "ms", late)],
            {
                "load": f"open loop, evenly spaced, {seconds:g} s a round, {rounds} rounds, up to 64 connections",
                "body": f"{BODY_BYTES} bytes (imin), every delivery about another customer",
                "workers": f"{penstock.WORKER_PROCESSES} processes and the relay; the lab answers after 20 ms",
            },
            stage.profiles.take(),
        )
    ]
