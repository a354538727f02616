"""Redis away in every way that it can be."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ops.chaos.processes import frozen, send
from ops.chaos.replicated_redis import ReplicatedRedis
from ops.chaos.scenario import Book, Bounds, Load, Skipped, Stage
from ops.lab.faults import Fault
from shared.errors import PenstockError


BOOK = Book()
OURS = frozenset({"redis"})
_FROZEN_SECONDS = 10.0
_HELD_SECONDS = 8.0
_DEAD_PORT = 1
_CALL_SECONDS = 0.5


@BOOK.add(
    "redis-restarted",
    needs=OURS,
    protects="the event is in Postgres before its message is sent; workers reconnect; the relay queues what was lost",
)
async def restarted(stage: Stage) -> None:
    """Redis is restarted: once in its own way (SIGTERM), once by force (SIGKILL)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        stage.say(f"sends {number.name} to Redis")
        send([each.pid for each in stage.at.alive("redis")], number)
        await stage.jitter(4.0)
        await stage.redis("PING")


@BOOK.add(
    "redis-flushed",
    protects="queues hold pointers only; the relay queues every due row again",
    within_seconds=15.0,
)
async def flushed(stage: Stage) -> None:
    """Redis loses everything it holds (FLUSHDB), six times in mid-load, while calls are slow and messages wait."""
    await asyncio.to_thread(stage.at.lab.set_faults, Fault(kind="slow", seconds=_CALL_SECONDS))
    try:
        for _ in range(6):
            stage.say("empties Redis")
            await stage.redis("FLUSHDB")
            await stage.jitter(1.0)
    finally:
        await asyncio.to_thread(stage.at.lab.set_faults)


@BOOK.add(
    "redis-frozen",
    needs=OURS,
    protects="publishing has a deadline and happens after the acknowledgement; workers' reads have deadlines too",
)
async def frozen_redis(stage: Stage) -> None:
    """Redis is stopped (SIGSTOP) for ten seconds and goes on."""
    stage.say("freezes Redis")
    with frozen(each.pid for each in stage.at.alive("redis")):
        await asyncio.sleep(_FROZEN_SECONDS)
    stage.say("wakes Redis")


@BOOK.add(
    "redis-full",
    needs=OURS,
    protects="an out-of-memory reply is a store that is away: rows stay due until a message can be written",
)
async def full(stage: Stage) -> None:
    """Redis refuses every write for lack of memory (CONFIG SET maxmemory) for eight seconds."""
    stage.say("takes Redis's memory away")
    try:
        await stage.redis("CONFIG", "SET", "maxmemory", 1)
        await asyncio.sleep(_HELD_SECONDS)
    finally:
        await stage.redis("CONFIG", "SET", "maxmemory", 0)
    stage.say("gives Redis its memory back")


@BOOK.add(
    "redis-flapping",
    needs=OURS,
    protects="every reconnect is tried for ever; nothing counts attempts down to giving up",
)
async def flapping(stage: Stage) -> None:
    """Redis is frozen and woken six times, and killed (SIGKILL) as soon as it is back, twice."""
    for _ in range(6):
        with frozen(each.pid for each in stage.at.alive("redis")):
            await stage.jitter(0.8)
        await stage.jitter(0.3)
    for _ in range(2):
        stage.say("kills Redis")
        send([each.pid for each in stage.at.alive("redis")], signal.SIGKILL)
        await asyncio.sleep(1.0)
        await stage.redis("PING")


@BOOK.add(
    "connections-cut",
    protects="a cut connection is made anew by workers, relay and ingress; an unacknowledged message is found again",
)
async def cut(stage: Stage) -> None:
    """All of Redis's connections are cut (CLIENT KILL) every second, eight times."""
    for _ in range(8):
        stage.say("cuts Redis's connections")
        await stage.redis("CLIENT", "KILL", "TYPE", "normal")
        await stage.jitter(1.0)


@BOOK.add(
    "redis-readonly",
    needs=OURS,
    protects="READONLY after a failover is a reason to reconnect, never to stop",
)
async def read_only(stage: Stage) -> None:
    """Redis becomes the replica of a dead server (REPLICAOF) for eight seconds, and its own master again."""
    stage.say("makes Redis read-only")
    try:
        await stage.redis("REPLICAOF", "127.0.0.1", _DEAD_PORT)
        await asyncio.sleep(_HELD_SECONDS)
    finally:
        await stage.redis("REPLICAOF", "NO", "ONE")
    stage.say("makes Redis its own master again")


@BOOK.add(
    "redis-failed-over",
    replicated=True,
    protects="every client asks the sentinels for the primary when it connects; the relay queues what was lost with it",
    bounds=Bounds(taken_up_seconds=30.0),
)
async def failed_over(stage: Stage) -> None:
    """The primary of a Redis with two replicas is killed (SIGKILL); three sentinels make a replica the primary."""
    redis = _replicated(stage)
    with _same_workers(stage):
        stage.say("kills the primary")
        fault_at = time.monotonic()
        await redis.another_primary(redis.kill_primary())
        # What came before may have been followed up without Redis: a task that runs looks for more work by itself.
        await stage.followed_up_again(fault_at)


@BOOK.add(
    "redis-failed-over-and-back",
    replicated=True,
    protects="who asks a primary that stands still has a deadline; one that has become a replica is left at READONLY",
    bounds=Bounds(taken_up_seconds=30.0),
    load=Load(events=600, rate=40.0),
)
async def failed_over_and_back(stage: Stage) -> None:
    """The primary stands still (SIGSTOP) until a replica has taken its place, and then goes on as if it were it."""
    redis = _replicated(stage)
    with _same_workers(stage):
        stage.say("freezes the primary")
        fault_at, old = time.monotonic(), redis.freeze_primary()
        try:
            await redis.another_primary(old)
            await stage.followed_up_again(fault_at)
        finally:
            stage.say("wakes what was the primary")
            redis.wake(old)
        await stage.jitter(4.0)


def _replicated(stage: Stage) -> ReplicatedRedis:
    if stage.at.replicated is None:
        raise Skipped("needs a Redis with sentinels of its own")
    return stage.at.replicated


@contextmanager
def _same_workers(stage: Stage) -> Iterator[None]:
    """Nobody starts a worker again, neither a person nor the supervisor. Raises PenstockError."""
    before = {each.pid for each in stage.at.alive("worker-")}
    yield
    if before != {each.pid for each in stage.at.alive("worker-")}:
        raise PenstockError("a worker had to be started again")
