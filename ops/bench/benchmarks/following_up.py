"""How fast a delivery becomes a record: as many as possible, and one at a time at a given rate."""

from collections.abc import Sequence
from typing import Final

from ops.bench import penstock
from ops.bench.asking import LOOK_SECONDS, rows
from ops.bench.deliveries import BODY_BYTES, imin_requests, write
from ops.bench.load import Order
from ops.bench.penstock import Subject
from ops.bench.results import Figure, Report, over
from ops.bench.schedule import turns
from ops.bench.stage import Stage
from ops.bench.statistics import Target, percentile
from ops.bench.usual import Yardstick, start_usual


OVER_USUAL: Final = Target(10, at_least=True)
P50_MS: Final = Target(60, at_least=False)
P99_MS: Final = Target(200, at_least=False)
RATE: Final = 60


def rate_of(stage: Stage, subject: Subject, requests: str, count: int, first: int) -> float:
    """Events a second from the first sending to the last event's end, ``count`` deliveries sent as fast as taken."""
    outcome = stage.load(Order(port=subject.port, requests=requests, count=count, first=first))
    return count / (subject.finish() - outcome.began)


def receipt_to_record(stage: Stage) -> Sequence[Report]:
    """Events a second through everything, the lab answering at once, beside ``usual``."""
    rounds, ours_count, theirs_count = (2, 2000, 200) if stage.quick else (5, 20_000, 2500)
    lab = stage.lab()
    account = lab.accounts()[0]
    requests = write(stage.folder, "imin", imin_requests(account, 100_000))
    ours = penstock.start(stage, penstock.config_for(lab), worker="imin")
    theirs = start_usual(stage, account, worker=True)
    stage.ready()
    rates: dict[str, list[float]] = {"penstock": [], "usual": []}
    rate_of(stage, ours, requests, 300, 0)
    _usual_rate(stage, theirs, requests, 30, 0)
    for number, subject in turns(list(rates), rounds):
        stage.say(f"round {number + 1} of {rounds}: {subject}")
        # A first delivery about a customer writes a record; each round has customers of its own.
        if subject == "penstock":
            rate = rate_of(stage, ours, requests, ours_count, 1000 + number * ours_count)
        else:
            rate = _usual_rate(stage, theirs, requests, theirs_count, 1000 + number * theirs_count)
        rates[subject].append(rate)
    _profile(stage, ours, requests, ours_count)
    return [
        Report(
            "receipt-to-record",
            "Deliveries a second from receipt to record, everything on",
            [
                over("over usual", rates["penstock"], rates["usual"], OVER_USUAL),
                *(
                    Figure(subject, "events/s", found, yardstick=subject != "penstock")
                    for subject, found in rates.items()
                ),
            ],
            {
                "load": f"closed loop, 64 connections, {ours_count} deliveries a round ({theirs_count} to usual)",
                "body": f"{BODY_BYTES} bytes (imin), every delivery about another customer: no call is shared",
                "processes": f"one ingress, {penstock.WORKER_PROCESSES} worker processes each; the lab answers at once",
                "rate": "deliveries over the time from the first sending to the end of the last follow-up",
                "usual": "FastAPI and SQLAlchemy; one Celery task, one synchronous call and one transaction a delivery",
            },
            stage.profiles.take(),
        )
    ]


def time_to_result(stage: Stage) -> Sequence[Report]:
    """From a delivery's scheduled time to its finished event, at a steady rate."""
    rounds, seconds = (1, 4.0) if stage.quick else (4, 20.0)
    lab = stage.lab(latency=0.02)
    requests = write(stage.folder, "imin", imin_requests(lab.accounts()[0], 100_000))
    ours = penstock.start(stage, penstock.config_for(lab), worker="imin")
    stage.ready()
    stage.load(Order(port=ours.port, requests=requests, rate=RATE, seconds=2))
    found: dict[str, list[float]] = {"p50": [], "p99": [], "max": []}
    for number in range(rounds):
        stage.say(f"round {number + 1} of {rounds}")
        first = 1000 + number * round(RATE * seconds)
        outcome = stage.load(
            Order(port=ours.port, requests=requests, rate=RATE, seconds=seconds, first=first, receipts=True)
        )
        ours.finish()
        waits = _waits(ours, outcome.receipts)
        found["p50"].append(percentile(waits, 0.5))
        found["p99"].append(percentile(waits, 0.99))
        found["max"].append(max(waits))
    return [
        Report(
            "time-to-result",
            f"From a delivery to its record, {RATE}/s, the API answering after 20 ms",
            [
                Figure("p50", "ms", found["p50"], P50_MS),
                Figure("p99", "ms", found["p99"], P99_MS),
                Figure("slowest", "ms", found["max"]),
            ],
            {
                "load": f"open loop, {RATE}/s, {seconds:g} s a round, {rounds} rounds",
                "body": f"{BODY_BYTES} bytes (imin), every delivery about another customer",
                "from, to": "the delivery's scheduled time; the timeline's last step, written just before its commit",
            },
            stage.profiles.take(),
        )
    ]


def _waits(subject: Subject, receipts: Sequence[tuple[str, float]]) -> list[float]:
    """Milliseconds from each delivery's scheduled time to the last step of its event."""
    found = rows(
        subject.database_url,
        """
        SELECT event_id::text AS id, extract(epoch FROM max(at))::float8 AS at FROM timeline
        WHERE event_id = ANY($1::uuid[]) GROUP BY event_id
        """,
        [receipt for receipt, _ in receipts],
    )
    ends = {row["id"]: row["at"] for row in found}
    return [1000 * (ends[receipt] - due) for receipt, due in receipts]


def _usual_rate(stage: Stage, yardstick: Yardstick, requests: str, count: int, first: int) -> float:
    outcome = stage.load(Order(port=yardstick.port, requests=requests, count=count, first=first))
    processes = yardstick.processes.values()
    stage.until(
        lambda: yardstick.unfinished() == 0, "the usual follow-ups", *processes, seconds=600, every=LOOK_SECONDS
    )
    return count / (yardstick.last_finished() - outcome.began)


def _profile(stage: Stage, subject: Subject, requests: str, count: int) -> None:
    if not stage.profiles.active:
        return
    first, second, *_ = subject.task_pids()
    with stage.profiles.of(ingress=subject.processes["ingress"].pid, worker=first, worker_2=second):
        rate_of(stage, subject, requests, count, 60_000)
