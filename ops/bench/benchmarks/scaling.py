"""What one installation does and what it costs; whether two do twice of it; whether more workers do more.

The simulation of ``ops.bench.simulation`` is given the service times that are measured here, and is compared with both
runs: with one installation, and with two that share nothing but this machine.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from ops.bench import penstock
from ops.bench.asking import value
from ops.bench.deliveries import BODY_BYTES, imin_requests, write
from ops.bench.load import Order, Outcome
from ops.bench.penstock import Subject
from ops.bench.proc import Company, cpu_seconds, family
from ops.bench.results import Figure, Report
from ops.bench.simulation import Station, closed, opened, shares
from ops.bench.stage import Stage
from ops.bench.statistics import Target, median
from ops.embedded.postgres import Postgres
from ops.embedded.redis import Redis
from ops.embedded.server import EmbeddedServer
from ops.lab.process import Lab
from shared.store.migrating import upgrade


SIMULATED_RIGHT: Final = Target(0.25, at_least=False)
"""How far the simulation of two installations may lie beside the real two, as a share."""
FOLLOWS: Final = Target(0.1, at_least=False)
"""How far the rate with twice the workers may lie beside twice the rate."""

_WARM_UP: Final = 300
_CONNECTIONS: Final = 64
_LATENCY: Final = 1.0
_PLACES: Final = 20
"""Calls that a worker's process may have under way while the API takes a second: so many events a second each."""
_SIMULATED_EVENTS: Final = 20_000
_RATES: Final = (1_000, 100_000)
_ACCOUNTS: Final = 20_000
_LARGEST: Final = 0.005
_FULL: Final = 0.6
"""How busy the busiest shard may be: beyond it events wait, and nothing is left for a replay."""
_CORES: Final = 8
"""Of each machine of the simulated installations: one for Postgres, one for everything else."""


class Rate(NamedTuple):
    """Events a second, and how many processors other programs used meanwhile."""

    events: float
    others: float


class Costs(NamedTuple):
    """Seconds of a processor an event, by what used them, and bytes on disk."""

    seconds: Mapping[str, float]
    disk_bytes: float


@dataclass(frozen=True, slots=True)
class Shard:
    """One installation with everything that belongs to it."""

    subject: Subject
    requests: str
    pids: Mapping[str, Sequence[int]]

    def used(self) -> dict[str, float]:
        """Seconds of a processor that each part has used so far."""
        return {name: cpu_seconds(pid for top in tops for pid in family(top)) for name, tops in self.pids.items()}


def scale(stage: Stage) -> Sequence[Report]:
    """The three questions, each on fresh stores."""
    rounds, count = (1, 2000) if stage.quick else (3, 20_000)
    lab = stage.lab()
    first = _shard(stage, lab, stage.stores.database(), stage.stores.redis(), stage.stores.servers)
    with _servers(stage.folder / "shard-2") as (database_url, redis_url, servers):
        second = _shard(stage, stage.lab(), database_url, redis_url, servers)
        stage.ready()
        alone: list[Rate] = []
        together: list[Rate] = []
        costs: list[Costs] = []
        for shard in (first, second):
            stage.load(Order(port=shard.subject.port, requests=shard.requests, count=_WARM_UP))
            shard.subject.finish()
        for number in range(rounds):
            start = 1000 + 2 * number * count
            stage.say(f"round {number + 1} of {rounds}: one installation")
            rate, cost = _measured(stage, first, count, start)
            alone.append(rate)
            costs.append(cost)
            stage.say(f"round {number + 1} of {rounds}: two installations")
            together.append(_together(stage, (first, second), count, start + count))
    follows = _followed(stage, rounds)
    seconds = {name: median([cost.seconds[name] for cost in costs]) for name in costs[0].seconds}
    return [_report(alone, together, follows, Costs(seconds, median([cost.disk_bytes for cost in costs])), count)]


def _report(
    alone: Sequence[Rate],
    together: Sequence[Rate],
    follows: Sequence[tuple[float, float, float]],
    costs: Costs,
    count: int,
) -> Report:
    cores = os.cpu_count() or 1
    first, second = _here(costs, "first"), _here(costs, "second")
    one = [_simulated([first], cores, each.others) for each in alone]
    two = [_simulated([first, second], cores, each.others) for each in together]
    ours = {name: each for name, each in costs.seconds.items() if name not in {"lab", "load"}}
    limit = min(_capacity(costs), key=lambda each: each[1])
    figures = [
        Figure("one installation", "events/s", [each.events for each in alone]),
        Figure("one, simulated", "events/s", one),
        Figure("two installations", "events/s", [each.events for each in together]),
        Figure("two, simulated", "events/s", two),
        Figure(
            "two, simulated beside measured",
            "x",
            [abs(told / each.events - 1) for told, each in zip(two, together, strict=True)],
            SIMULATED_RIGHT,
        ),
        Figure("one worker's process", "events/s", [each[0] for each in follows]),
        Figure("with a second: beside twice as many", "x", [abs(b / (2 * a) - 1) for a, b, _ in follows], FOLLOWS),
        Figure("it is gone again: beside the first", "x", [abs(c / a - 1) for a, _, c in follows], FOLLOWS),
        *(Figure(f"processor: {name}", "us/event", [1e6 * each]) for name, each in costs.seconds.items()),
        Figure("processor: a million events", "hours", [1e6 * sum(ours.values()) / 3600]),
        Figure("disk: a million events", "GiB", [1e6 * costs.disk_bytes / 2**30]),
        Figure("an installation of two machines", "events/s", [limit[1]]),
    ]
    for rate in _RATES:
        shards = _shards(rate, limit[1])
        held = max(shares(_ACCOUNTS, shards, largest=_LARGEST))
        waits = opened([_on_two_machines(costs)], _TWO, rate=rate * held, events=_SIMULATED_EVENTS)
        figures += [
            Figure(f"{rate:,}/s: installations", "", [float(shards)]),
            Figure(f"{rate:,}/s: the busiest", "x", [max(waits.busy.values())]),
            Figure(f"{rate:,}/s: p99 of its work", "ms", [waits.p99_ms]),
        ]
    return Report(
        "scale",
        "What one installation does, and the way to many",
        figures,
        {
            "load": f"closed loop, {_CONNECTIONS} connections an installation, {count} deliveries a round",
            "body": f"{BODY_BYTES} bytes (imin), every delivery about another customer: no call is shared",
            "processes": f"one ingress, one relay, {penstock.WORKER_PROCESSES} worker processes; on {cores} processors"
            " with their stores, the lab and the load",
            "workers": f"an API that answers after {_LATENCY:g} s, {_PLACES} calls at once a process",
            "ends first": f"{limit[0]}, on two machines of {_CORES} processors: Postgres has one of them",
            "many": f"{_ACCOUNTS:,} accounts, the largest with {_LARGEST:.1%} of all events; no installation over"
            f" {_FULL:.0%} busy; simulated",
        },
    )


# ── one installation ──────────────────────────────────────────────────────────────────────────────────────────────────


def _shard(stage: Stage, lab: Lab, database_url: str, redis_url: str, servers: Sequence[EmbeddedServer]) -> Shard:
    account = lab.accounts()[0]
    name = f"imin-{len(list(stage.folder.glob('imin-*')))}"
    requests = write(stage.folder, name, imin_requests(account, 100_000))
    subject = penstock.start(
        stage, penstock.config_for(lab), worker="imin", database_url=database_url, redis_url=redis_url
    )
    pids = {role: [process.pid] for role, process in subject.processes.items()}
    pids |= {server.name: [server.process.pid] for server in servers if server.process}
    return Shard(subject, requests, pids | {"lab": [lab.pid]})


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[str, str, Sequence[EmbeddedServer]]]:
    """Stores of the second installation's own."""
    with Postgres(folder) as postgres, Redis(folder) as redis:
        upgrade(postgres.url)
        yield postgres.url, redis.url, (postgres, redis)


def _measured(stage: Stage, shard: Shard, count: int, start: int) -> tuple[Rate, Costs]:
    size = "SELECT pg_database_size(current_database())"
    before, bytes_before, load_before = shard.used(), value(shard.subject.database_url, size), _of_children()
    company = Company()
    outcome = _sent(stage, shard, count, start)
    load = _of_children() - load_before
    rate = Rate(count / (shard.subject.finish() - outcome.began), company.share())
    used = {name: (after - before[name]) / count for name, after in shard.used().items()}
    grown = value(shard.subject.database_url, size) - bytes_before
    return rate, Costs({**used, "load": load / count}, grown / count)


def _together(stage: Stage, shards: Sequence[Shard], count: int, start: int) -> Rate:
    """Events a second of all of them."""
    company = Company()
    with ThreadPoolExecutor(len(shards)) as threads:
        outcomes = list(threads.map(lambda shard: _sent(stage, shard, count, start), shards))
    ended = max(shard.subject.finish() for shard in shards)
    began = min(outcome.began for outcome in outcomes)
    return Rate(len(shards) * count / (ended - began), company.share())


def _sent(stage: Stage, shard: Shard, count: int, start: int) -> Outcome:
    return stage.load(Order(port=shard.subject.port, requests=shard.requests, count=count, first=start))


def _of_children() -> float:
    """Processor seconds of programs that were started and waited for: of the load alone."""
    ended = os.times()
    return ended.children_user + ended.children_system


# ── workers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _followed(stage: Stage, rounds: int) -> list[tuple[float, float, float]]:
    """Events a second with one worker's process, with a second one, and when that one has been taken away again.

    The API is slow, so a worker's places are what is scarce, and not this machine's processors.
    """
    lab = stage.lab(latency=_LATENCY)
    requests = write(stage.folder, "slow-imin", imin_requests(lab.accounts()[0], 100_000))
    config = f"{penstock.config_for(lab)}\n[following_up]\nconcurrent_calls = {_PLACES}\n"
    subject = penstock.start(stage, config, worker="imin", concurrency=1)
    stage.ready()
    found, start = [], 0
    seconds = 8 if stage.quick else 20
    for number in range(rounds):
        stage.say(f"round {number + 1} of {rounds}: workers are added and taken away")
        rates = []
        for workers in (1, 2, 1):
            second = penstock.another_worker(stage, subject, "imin") if workers > 1 else None
            count = workers * _PLACES * seconds
            outcome = stage.load(Order(port=subject.port, requests=requests, count=count, first=start))
            start += count
            rates.append(count / (subject.finish() - outcome.began))
            if second:
                stage.stop(second)
        found.append((rates[0], rates[1], rates[2]))
    return found


# ── many installations ────────────────────────────────────────────────────────────────────────────────────────────────

_TWO: Final = {"postgres": _CORES, "others": _CORES}


def _here(costs: Costs, installation: str) -> list[Station]:
    """As it is measured: every part beside every other on this machine, so many processes of each."""
    places = {"ingress": 1, "worker": penstock.WORKER_PROCESSES, "relay": 1, "redis": 1, "lab": 1, "load": 1}
    return [
        Station(f"{installation} {name}", each, places.get(name, _CORES), "here")
        for name, each in costs.seconds.items()
    ]


def _on_two_machines(costs: Costs) -> list[Station]:
    """Postgres has a machine, everything else another; as many processes as that has processors."""
    return [
        Station(name, each, 1 if name == "redis" else _CORES, "postgres" if name == "postgres" else "others")
        for name, each in costs.seconds.items()
        if name not in {"lab", "load"}
    ]


def _simulated(paths: Sequence[Sequence[Station]], cores: int, others: float) -> float:
    """Events a second of installations on this machine, on the processors that other programs leave."""
    left = max(cores - others, 0.1)
    slower = [[replace(station, seconds=station.seconds * cores / left) for station in path] for path in paths]
    return closed(slower, {"here": cores}, events=_SIMULATED_EVENTS, at_once=_CONNECTIONS * len(paths)).rate


def _capacity(costs: Costs) -> list[tuple[str, float]]:
    """What ends first on those machines: each resource, and the events a second at which it is used up."""
    others = sum(each for name, each in costs.seconds.items() if name not in {"lab", "load", "postgres"})
    return [
        ("the processors of Postgres", _CORES / costs.seconds["postgres"]),
        ("Redis, which has one thread", 1 / max(costs.seconds["redis"], 1e-9)),
        ("the processors of ingress and workers", _CORES / others),
    ]


def _shards(rate: float, capacity: float) -> int:
    """The fewest installations of which none is fuller than it may be."""
    shards = max(1, int(rate / capacity))
    while max(shares(_ACCOUNTS, shards, largest=_LARGEST)) * rate > _FULL * capacity:
        shards += 1
        if 1 / shards < _LARGEST / 2:
            break
    return shards
