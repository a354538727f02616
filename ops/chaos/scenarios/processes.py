"""Processes of the installation that are killed."""

import asyncio
import signal

from ops.chaos.processes import family, send
from ops.chaos.scenario import NO_ANSWER, UNAVAILABLE, Book, Stage


BOOK = Book()
_KILLS = 3
_LOOKS, _LOOK_SECONDS = 400, 0.1
_READY_SECONDS = 2.0


@BOOK.add(
    "ingress-killed",
    protects="two processes share one socket; the answer follows the commit; what got no answer is sent again",
    may_refuse=NO_ANSWER,
)
async def ingress_killed(stage: Stage) -> None:
    """One of two ingress processes is killed (SIGKILL) again and again, while the other one serves."""
    for _ in range(_KILLS):
        await _wait_for(stage, "ingress-", 2)
        await stage.jitter(1.5)
        victim = stage.chance.choice(stage.at.alive("ingress-"))
        stage.say(f"kills {victim.name}")
        send([victim.pid], signal.SIGKILL)
    await _wait_for(stage, "ingress-", 2)


@BOOK.add(
    "worker-killed",
    protects="leases lapse ten seconds after the last beat, late finishers are refused, the relay queues again",
)
async def worker_killed(stage: Stage) -> None:
    """Worker processes (the main one or one of its pool, of every provider) are killed (SIGKILL) in mid-work."""
    for _ in range(_KILLS * 2):
        workers = stage.at.alive("worker-")
        if workers:
            victim = stage.chance.choice(workers)
            pid = stage.chance.choice(family(victim.pid))
            stage.say(f"kills process {pid} of {victim.name}")
            send([pid], signal.SIGKILL)
        await stage.jitter(1.0)
    await _wait_for(stage, "worker-", 4)


@BOOK.add(
    "relay-killed",
    protects="rows are stamped and queued in one transaction; the next relay reads the same rows",
)
async def relay_killed(stage: Stage) -> None:
    """The relay is killed (SIGKILL) again and again, and Redis is emptied so that everything depends on it."""
    for _ in range(_KILLS):
        await _wait_for(stage, "relay", 1)
        await stage.redis("FLUSHDB")
        await stage.jitter(0.6)
        stage.say("kills the relay")
        send([each.pid for each in stage.at.alive("relay")], signal.SIGKILL)
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


async def _wait_for(stage: Stage, prefix: str, count: int) -> None:
    """Until so many of these processes live and have had a moment to become ready."""
    for _ in range(_LOOKS):
        if len(stage.at.alive(prefix)) >= count:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    await asyncio.sleep(_READY_SECONDS)
