"""Processes of the installation that are killed."""

import asyncio
import random
import signal
from collections.abc import Sequence
from typing import NamedTuple

from ops.chaos.processes import family, send
from ops.chaos.scenario import NO_ANSWER, UNAVAILABLE, Book, Bounds, Load, Stage
from ops.chaos.throwaway import INGRESS
from ops.installation import NotedProcess
from ops.lab.faults import Fault
from shared.errors import PenstockError
from shared.providers.registry import PROVIDERS


BOOK = Book()
WORKERS = tuple(f"worker-{provider}" for provider in PROVIDERS)
_KILLS = 3
_CALL_SECONDS = 0.5
_PROCESSES = 3
"""Of a worker: the main one and two of its pool."""
_LOOKS, _LOOK_SECONDS = 1200, 0.1
_READY_SECONDS = 2.0


@BOOK.add(
    "ingress-killed",
    protects="two processes share one socket; the answer follows the commit; what got no answer is sent again",
    may_refuse=NO_ANSWER,
)
async def ingress_killed(stage: Stage) -> None:
    """One of two ingress processes is killed (SIGKILL) again and again, while the other one serves."""
    await _kill_ingress(stage)


@BOOK.add(
    "ingress-killed-at-300",
    protects="two processes share one socket; workers leave ingress and the stores the processor first",
    may_refuse=NO_ANSWER,
    within_seconds=60.0,
    bounds=Bounds(p99_ms=50.0),
    load=Load(events=5400, rate=300.0, ahead=True),
)
async def ingress_killed_at_300(stage: Stage) -> None:
    """One of two ingress processes is killed (SIGKILL) every few seconds while 300 deliveries come in each second."""
    await _kill_ingress(stage)


@BOOK.add(
    "worker-killed",
    protects="leases lapse ten seconds after the last beat, late finishers are refused, the relay queues again",
    bounds=Bounds(taken_up_seconds=15.0),
)
async def worker_killed(stage: Stage) -> None:
    """Worker processes (the main one or one of its pool, of every provider) are killed (SIGKILL) in mid-work."""
    # Calls take a while, so that whoever is killed is in the midst of some.
    await asyncio.to_thread(stage.at.lab.set_faults, Fault(kind="slow", seconds=_CALL_SECONDS))
    try:
        await _kill_workers(stage)
    finally:
        await asyncio.to_thread(stage.at.lab.set_faults)


async def _kill_workers(stage: Stage) -> None:
    async with asyncio.TaskGroup() as tasks:
        for kill in worker_kills(stage.chance):
            main = await _wait_for(stage, kill.name, 1)
            everybody = family(main.pid)
            # A worker that is only now starting has no children yet.
            pid = everybody[kill.child] if kill.child < len(everybody) else main.pid
            stage.say(f"kills process {kill.child} of {kill.name}")
            killed = family(pid)
            send([pid], signal.SIGKILL)
            tasks.create_task(stage.taken_up(killed))
            await asyncio.sleep(kill.pause_seconds)
        await _wait_for(stage, "worker-", len(WORKERS), _READY_SECONDS)


@BOOK.add(
    "relay-killed",
    needs={"redis"},
    protects="what was stamped and whose message was not sent is queued again ten seconds later, by any relay",
)
async def relay_killed(stage: Stage) -> None:
    """Redis takes no message during the load, so that all depends on the relay, which is killed (SIGKILL) after it."""
    stage.say("takes Redis's memory away")
    try:
        await stage.redis("CONFIG", "SET", "maxmemory", 1)
        await stage.all_sent()
        await _kill_relay(stage)
    finally:
        await stage.redis("CONFIG", "SET", "maxmemory", 0)
    for _ in range(_KILLS - 1):
        await stage.jitter(2.0)
        await _kill_relay(stage)
    await _wait_for(stage, "relay", 1)


@BOOK.add(
    "all-killed",
    protects="nothing lives in a process alone: rows, the append-only file and the blobs are on disk",
    may_refuse={*NO_ANSWER, *UNAVAILABLE},  # the stores may be gone a moment before ingress is
    within_seconds=60.0,
)
async def all_killed(stage: Stage) -> None:
    """The supervisor is killed (SIGKILL), everything ends with it, and it is started again."""
    stage.say("kills the supervisor")
    await stage.at.stop(signal.SIGKILL)
    stage.say("starts it again")
    await stage.at.start()


@BOOK.add(
    "all-restarted",
    protects="SIGTERM drains: what is in hand is answered and finished or released",
    may_refuse=NO_ANSWER,
    within_seconds=60.0,
)
async def all_restarted(stage: Stage) -> None:
    """The supervisor is asked to end (SIGTERM) under load, and is started again."""
    stage.say("stops the supervisor")
    await stage.at.stop()
    stage.say("starts it again")
    await stage.at.start()


class Kill(NamedTuple):
    """One kill of a plan: which process of which worker (0 is the main one), and how long until the next."""

    name: str
    child: int
    pause_seconds: float


def worker_kills(chance: random.Random) -> list[Kill]:
    """The plan; it follows from the seed alone, not from what happens to run."""
    return [
        Kill(chance.choice(WORKERS), chance.randrange(_PROCESSES), 0.5 + chance.random()) for _ in range(_KILLS * 2)
    ]


async def _kill_relay(stage: Stage) -> None:
    relay = await _wait_for(stage, "relay", 1)
    stage.say("kills the relay")
    send([relay.pid], signal.SIGKILL)


async def _kill_ingress(stage: Stage) -> None:
    killed: list[NotedProcess] = []
    for _ in range(_KILLS):
        await _wait_for(stage, "ingress-", INGRESS, _READY_SECONDS, besides=killed)
        await stage.jitter(1.5)
        name = f"ingress-{stage.chance.randint(1, INGRESS)}"
        stage.say(f"kills {name}")
        killed = stage.at.alive(name)
        send([each.pid for each in killed], signal.SIGKILL)
    await _wait_for(stage, "ingress-", INGRESS, _READY_SECONDS, besides=killed)


async def _wait_for(
    stage: Stage, prefix: str, count: int, ready_seconds: float = 0.0, besides: Sequence[NotedProcess] = ()
) -> NotedProcess:
    """Until so many of these processes live and have had a moment to become ready; the first of them.

    ``besides`` those who were just killed: they are still there for a moment.
    """
    for _ in range(_LOOKS):
        if len(found := [each for each in stage.at.alive(prefix) if each not in besides]) >= count:
            await asyncio.sleep(ready_seconds)
            return found[0]
        await asyncio.sleep(_LOOK_SECONDS)
    raise PenstockError(f"{prefix.rstrip('-')} was not started again")
