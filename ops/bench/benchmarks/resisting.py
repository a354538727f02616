"""What strangers can do to the deliveries of others, and whether time tells them anything of a key."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from ops.bench import penstock
from ops.bench.deliveries import BODY_BYTES, imin_requests, write
from ops.bench.load import Order
from ops.bench.proc import cpu_seconds
from ops.bench.results import Figure, Report
from ops.bench.schedule import turns
from ops.bench.stage import BenchFailed, Stage
from ops.bench.statistics import Target
from ops.bench.strangers import Count, Siege
from ops.bench.telltale import LEAKS, authentication, leaking, statistic
from shared.providers.registry import PROVIDERS


LORISES: Final = 500
FLOODERS: Final = 8
RATE: Final = 100
"""Authentic deliveries a second."""
P99_MS: Final = Target(50, at_least=False)
_MARGIN_SECONDS: Final = 1.0
_READY_SECONDS: Final = 60.0


def flood(stage: Stage) -> Sequence[Report]:
    """The p99 of authentic deliveries beside slow connections and a flood of wrong keys, and beside nobody."""
    rounds, seconds = (1, 3.0) if stage.quick else (4, 15.0)
    lab = stage.lab()
    requests = write(stage.folder, "imin", imin_requests(lab.accounts()[0], 100_000))
    ours = penstock.start(stage, penstock.config_for(lab))
    stage.ready()
    ingress = ours.processes["ingress"].pid
    p99: dict[str, list[float]] = {"beside nobody": [], "beside strangers": []}
    refused: list[float] = []
    sent = 0

    def deliver(length: float) -> float:
        nonlocal sent
        order = Order(port=ours.port, requests=requests, rate=RATE, seconds=length, first=sent)
        sent += round(RATE * length)
        return stage.load(order).latency["p99"]

    deliver(1.0)
    for number, subject in turns(list(p99), rounds):
        stage.say(f"round {number + 1} of {rounds}: {subject}")
        if subject == "beside nobody":
            p99[subject].append(deliver(seconds))
            continue
        siege = Siege(port=ours.port, lorises=LORISES, flooders=FLOODERS, seconds=seconds + _MARGIN_SECONDS)
        with _besieged(siege) as counts:
            p99[subject].append(deliver(seconds))
        refused.append(counts[0].refused / counts[0].seconds)
    stage.say("what a refusal costs")
    costs = []
    for _ in range(rounds):
        before = cpu_seconds([ingress])
        with _besieged(Siege(port=ours.port, lorises=0, flooders=FLOODERS, seconds=seconds)) as counts:
            pass
        costs.append(1e6 * (cpu_seconds([ingress]) - before) / max(1, counts[0].refused))
    with stage.profiles.of(ingress=ingress):
        if stage.profiles.active:
            with _besieged(Siege(port=ours.port, lorises=0, flooders=FLOODERS, seconds=seconds)):
                pass
    return [
        Report(
            "flood",
            f"Authentic deliveries beside {LORISES} slow connections and a flood of wrong keys",
            [
                Figure("p99, beside strangers", "ms", p99["beside strangers"], P99_MS),
                Figure("p99, beside nobody", "ms", p99["beside nobody"]),
                Figure("wrong keys refused", "/s", refused),
                Figure("CPU of ingress for a refusal", "us", costs),
            ],
            {
                "load": f"open loop, {RATE}/s, {seconds:g} s a round, {rounds} rounds of each in turn; no worker runs",
                "body": f"{BODY_BYTES} bytes (imin)",
                "strangers": f"{LORISES} heads that grow a byte every 100 ms, ended by ingress after 10 s and begun "
                f"anew; {FLOODERS} senders of wrong keys, one after the other as fast as they are answered, each "
                "over a connection of its own; they stand back on this machine's processor (nice 10)",
            },
            stage.profiles.take(),
        )
    ]


@contextmanager
def _besieged(siege: Siege) -> Iterator[list[Count]]:
    """Strangers beside what is done here; their count is there at the end. Raises BenchFailed."""
    counts: list[Count] = []
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "ops.bench.strangers", msgspec.json.encode(siege).decode()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        if not process.stdout or process.stdout.readline() != b'{"ready": true}\n':
            raise BenchFailed(f"the strangers did not come: {process.communicate()[1].decode()[-500:]}")
        yield counts
        output, errors = process.communicate(timeout=siege.seconds + _READY_SECONDS)
        if process.returncode:
            raise BenchFailed(f"the strangers ended: {errors.decode().strip()[-500:]}")
        counts.append(msgspec.json.decode(output, type=Count))
    finally:
        process.kill()
        process.wait()


def key_timing(stage: Stage) -> Sequence[Report]:
    """Whether a key that is right but for its end is refused in another time than one that is all wrong."""
    rounds, samples = (1, 20_000) if stage.quick else (5, 100_000)
    checks = {name: authentication(name) for name in sorted(PROVIDERS)}
    found: dict[str, list[float]] = {name: [] for name in checks}
    control: list[float] = []
    began = time.monotonic()
    for number in range(rounds):
        stage.say(f"round {number + 1} of {rounds}, {time.monotonic() - began:.0f} s")
        for name, check in checks.items():
            found[name].append(statistic(check, samples))
        control.append(statistic(leaking, samples // 10))
    return [
        Report(
            "key-timing",
            "Whether the time of a refusal tells how much of a key was right",
            [
                *(Figure(f"t, {name}", "", values, Target(LEAKS, at_least=False)) for name, values in found.items()),
                Figure("t, a comparison that stops early", "", control, Target(LEAKS, at_least=True)),
            ],
            {
                "keys": "512 characters, of which 511 are right or none is, in random order",
                "statistic": f"Welch's t of the quickest 60 % of {samples:,} samples (dudect): over 4.5 is suspicious, "
                f"over {LEAKS:g} certain; the last line shows that a leak would be found",
            },
        )
    ]
