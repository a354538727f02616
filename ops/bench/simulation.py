"""A simulation of installations: events that pass from station to station, and wait where others are before them.

A station is what does one part of the work for an event (ingress, worker, Postgres ...): so many at a time, on the
processors of a machine that it may share with other stations. Service times are measured; the waiting is simulated.
"""

import heapq
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ops.bench.statistics import percentile


SPREAD: Final = 0.5
"""How far a service time lies around its mean, up or down: an event costs what its body and its answer make it cost."""


@dataclass(frozen=True, slots=True)
class Station:
    """``seconds`` an event; ``at_once`` events at the same time (its processes), on the processors of ``machine``."""

    name: str
    seconds: float
    at_once: int
    machine: str


Path: TypeAlias = Sequence[Station]
"""The stations of one installation, in the order in which its events come to them."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """Events a second, milliseconds until half and 99 of 100 of them were through, and how busy each machine was."""

    rate: float
    p50_ms: float
    p99_ms: float
    busy: Mapping[str, float]


@dataclass(slots=True)
class _Machine:
    """Processors that its stations share, in the order in which they ask."""

    free: int
    busy_seconds: float = 0.0
    waiting: deque[tuple[int, int]] = field(default_factory=deque)


class _Run:
    """Event ``n`` takes path ``n`` of the paths in turn."""

    def __init__(self, paths: Sequence[Path], machines: Mapping[str, int], chance: random.Random) -> None:
        self._paths = paths
        self._machines = {name: _Machine(cores) for name, cores in machines.items()}
        self._places = {station: station.at_once for path in paths for station in path}
        self._queues: dict[Station, deque[tuple[int, int]]] = {station: deque() for station in self._places}
        self._chance = chance
        self._ends: list[tuple[float, int, int]] = []
        self.now = 0.0

    def arrive(self, event: int) -> None:
        """An event comes to the first station of its path."""
        self._come(event, 0)

    def until(self, time: float) -> Iterator[int]:
        """The events that are through by then, in order."""
        while self._ends and self._ends[0][0] <= time:
            self.now, event, step = heapq.heappop(self._ends)
            self._leave(event, step)
            if step + 1 == len(self._path(event)):
                yield event
            else:
                self._come(event, step + 1)
        self.now = time

    def next_end(self) -> float | None:
        """When the next event leaves a station."""
        return self._ends[0][0] if self._ends else None

    def busy(self, machines: Mapping[str, int]) -> dict[str, float]:
        """The share of each machine's processors that worked until now."""
        return {name: each.busy_seconds / (self.now * machines[name]) for name, each in self._machines.items()}

    def _path(self, event: int) -> Path:
        return self._paths[event % len(self._paths)]

    def _come(self, event: int, step: int) -> None:
        station = self._path(event)[step]
        if self._places[station]:
            self._places[station] -= 1
            self._ask(event, step)
        else:
            self._queues[station].append((event, step))

    def _ask(self, event: int, step: int) -> None:
        machine = self._machines[self._path(event)[step].machine]
        if machine.free:
            machine.free -= 1
            self._begin(event, step, machine)
        else:
            machine.waiting.append((event, step))

    def _begin(self, event: int, step: int, machine: _Machine) -> None:
        seconds = self._path(event)[step].seconds * (1 + SPREAD * (2 * self._chance.random() - 1))
        machine.busy_seconds += seconds
        heapq.heappush(self._ends, (self.now + seconds, event, step))

    def _leave(self, event: int, step: int) -> None:
        station = self._path(event)[step]
        machine = self._machines[station.machine]
        if machine.waiting:
            self._begin(*machine.waiting.popleft(), machine)
        else:
            machine.free += 1
        if self._queues[station]:
            self._ask(*self._queues[station].popleft())
        else:
            self._places[station] += 1


def closed(paths: Sequence[Path], machines: Mapping[str, int], *, events: int, at_once: int) -> Simulated:
    """So many events are on their way at all times: what the installations do at most."""
    run = _Run(paths, machines, random.Random("closed"))  # noqa: S311 - the same each time
    began: dict[int, float] = {}
    waits: list[float] = []
    for event in range(min(at_once, events)):
        began[event] = 0.0
        run.arrive(event)
    coming = len(began)
    while (end := run.next_end()) is not None:
        for event in run.until(end):
            waits.append(run.now - began.pop(event))
            if coming < events:
                began[coming] = run.now
                run.arrive(coming)
                coming += 1
    return _told(run, waits, machines)


def opened(paths: Sequence[Path], machines: Mapping[str, int], *, rate: float, events: int) -> Simulated:
    """Events come at this rate, at random, whatever becomes of the earlier ones."""
    chance = random.Random("opened")  # noqa: S311 - the same each time
    run = _Run(paths, machines, chance)
    began: dict[int, float] = {}
    waits: list[float] = []
    at = 0.0
    for event in range(events):
        at += chance.expovariate(rate)
        waits += [run.now - began.pop(done) for done in run.until(at)]
        began[event] = at
        run.arrive(event)
    while (end := run.next_end()) is not None:
        waits += [run.now - began.pop(done) for done in run.until(end)]
    return _told(run, waits, machines)


def _told(run: _Run, waits: Sequence[float], machines: Mapping[str, int]) -> Simulated:
    milliseconds = [1000 * wait for wait in waits]
    return Simulated(
        rate=len(waits) / run.now,
        p50_ms=percentile(milliseconds, 0.5),
        p99_ms=percentile(milliseconds, 0.99),
        busy=run.busy(machines),
    )


def shares(accounts: int, shards: int, *, largest: float, seed: object = "shares") -> list[float]:
    """The share of all events that each shard gets when every new account goes to the shard that has least.

    Accounts are of different sizes (Zipf), the largest has ``largest`` of all events. The last tenth of them came when
    their sizes were not known, and lies where it fell.
    """
    chance = random.Random(f"{seed}")  # noqa: S311 - the same each time
    sizes = [1.0 / (1 + number) for number in range(accounts)]
    others = sum(sizes[1:])
    sizes = [largest, *(size / others * (1 - largest) for size in sizes[1:])]
    unknown = accounts // 10
    held = [0.0] * shards
    for size in sizes[: accounts - unknown]:
        smallest = min(range(shards), key=held.__getitem__)
        held[smallest] += size
    for size in sizes[accounts - unknown :]:
        held[chance.randrange(shards)] += size
    return held
