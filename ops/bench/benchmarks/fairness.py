"""What one studio's storm costs the others: their time to result with it, beside a run without it."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

from ops.bench import penstock
from ops.bench.asking import rows, value
from ops.bench.deliveries import magicline_request, write
from ops.bench.load import Order
from ops.bench.penstock import Subject
from ops.bench.results import Figure, Report, over
from ops.bench.schedule import turns
from ops.bench.stage import Stage
from ops.bench.statistics import Target, percentile
from ops.lab.accounts import Account
from ops.lab.limits import Limit


STUDIOS: Final = 20
EACH: Final = 2
"""Deliveries a second of a studio; the one that storms sends ``TIMES`` as many."""
TIMES: Final = 50
GROWTH: Final = Target(2, at_least=False)
_FIRST_CUSTOMER: Final = 1001

_WAITS: Final = """
    SELECT t.event_id::text AS id, extract(epoch FROM max(t.at))::float8 AS at
    FROM timeline t JOIN events e ON e.id = t.event_id
    WHERE e.id = ANY($1::uuid[]) AND e.account <> $2 GROUP BY t.event_id
"""
_OTHERS_UNFINISHED: Final = """
    SELECT EXISTS (SELECT FROM events WHERE account <> $1 AND state IN ('received', 'processing', 'waiting'))
"""


def fairness(stage: Stage) -> Sequence[Report]:
    """The p99 from delivery to record of 19 studios, while the twentieth sends as they do and while it storms."""
    rounds, seconds = (1, 4.0) if stage.quick else (4, 20.0)
    lab = stage.lab(latency=0.02, studios=STUDIOS)
    lab.set_limits({"magicline": Limit(calls=0, seconds=1)})
    studios = [account for account in lab.accounts() if account.provider == "magicline"]
    # Without budgets nothing but the turns that accounts take protects the others.
    config = lab.config_toml().replace("base_url =", "budget = { calls = 0 }\nbase_url =")
    ours = penstock.start(stage, config, worker="magicline")
    stage.ready()
    rates = {"calm": STUDIOS * EACH, "storm": (STUDIOS - 1 + TIMES) * EACH}
    found: dict[str, list[float]] = {subject: [] for subject in rates}
    middle: dict[str, list[float]] = {subject: [] for subject in rates}
    customers = count(_FIRST_CUSTOMER)
    _waits(stage, ours, studios, customers, "storm", rates["storm"], 2.0)
    for number, subject in turns(list(rates), rounds):
        stage.say(f"round {number + 1} of {rounds}: {subject}")
        waits = _waits(stage, ours, studios, customers, subject, rates[subject], seconds)
        found[subject].append(percentile(waits, 0.99))
        middle[subject].append(percentile(waits, 0.5))
    return [
        Report(
            "fairness",
            f"What one of {STUDIOS} studios costs the others when it sends {TIMES} times as much",
            [
                over("p99 of the others, storm over calm", found["storm"], found["calm"], GROWTH),
                *(Figure(f"p99 of the others, {subject}", "ms", waits) for subject, waits in found.items()),
                *(Figure(f"p50 of the others, {subject}", "ms", waits) for subject, waits in middle.items()),
            ],
            {
                "load": f"open loop: {EACH}/s a studio, calm {rates['calm']}/s and storm {rates['storm']}/s in all, "
                f"{seconds:g} s a round, {rounds} rounds of each in turn",
                "body": "CUSTOMER_UPDATED (Magicline), every delivery about another customer: no call is shared",
                "budgets": "lifted, so that only the turns of the accounts protect the others; the API answers "
                "after 20 ms",
                "from, to": "the delivery's scheduled time; the timeline's last step, written just before its commit",
            },
            stage.profiles.take(),
        )
    ]


def _waits(
    stage: Stage,
    subject: Subject,
    studios: Sequence[Account],
    customers: Iterator[int],
    which: str,
    rate: int,
    seconds: float,
) -> list[float]:
    """Milliseconds from each delivery's scheduled time to its result, but for the studio that may storm."""
    total = round(rate * seconds)
    turns_of = _cycle(studios) if which == "storm" else list(studios)
    requests = [magicline_request(turns_of[place % len(turns_of)], next(customers)) for place in range(total)]
    file = write(stage.folder, f"{which}-{next(customers)}", requests)
    order = Order(port=subject.port, requests=file, rate=rate, seconds=seconds, receipts=True)
    receipts = dict(stage.load(order).receipts)
    storming = studios[0].name
    stage.until(
        lambda: not value(subject.database_url, _OTHERS_UNFINISHED, storming),
        "the others' events",
        *subject.processes.values(),
        seconds=120,
    )
    ended = rows(subject.database_url, _WAITS, list(receipts), storming)
    subject.finish()
    return [1000 * (row["at"] - receipts[row["id"]]) for row in ended]


def _cycle(studios: Sequence[Account]) -> list[Account]:
    """The order of deliveries in a storm: one of each other studio, and the first one's spread between them."""
    storming, *others = studios
    every = (len(others) + TIMES) / len(others)
    places = {round(number * every): other for number, other in enumerate(others)}
    return [places.get(place, storming) for place in range(len(others) + TIMES)]
