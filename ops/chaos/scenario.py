"""What a scenario is: a fault that is played while deliveries come in, and what is right meanwhile."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

import asyncpg
from redis.exceptions import RedisError

from ops.chaos.claims import Claims
from ops.chaos.throwaway import Throwaway
from ops.chaos.traffic import Intent
from shared.errors import PenstockError
from shared.redis_clients import open_redis
from shared.spool import SPOOL
from shared.store.connection import connect
from shared.store.postgres import connect_once


ResultT = TypeVar("ResultT")

NOTHING: Collection[int] = frozenset()
NO_ANSWER: Collection[int] = frozenset({0})
"""The connection was refused or cut: the process at its other end was killed."""
UNAVAILABLE: Collection[int] = frozenset({503})


class Skipped(PenstockError):
    """The scenario cannot be played here; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many deliveries, so many a second; ``ahead``: everything happens at the providers before the first of them."""

    events: int
    rate: float
    ahead: bool = False


USUAL_LOAD = Load(events=400, rate=40.0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Figures that a scenario promises beside what holds for all of them; None promises nothing."""

    p99_ms: float | None = None
    """Of the acknowledgements."""
    taken_up_seconds: float | None = None
    drained_seconds: float | None = None


NO_BOUNDS = Bounds()


@dataclass(slots=True)
class Measured:
    """What a scenario measured of its own fault while it was played. Times are monotonic, or seconds."""

    postgres_away: tuple[float, float] | None = None
    """From when until when: whatever was answered between the two has to be kept in the spool."""
    taken_up_seconds: float | None = None
    """From a kill until what it stopped went on: the last of what a process held was claimed by another one, or events
    were followed up again. The longest of all kills.
    """
    drained_seconds: float | None = None
    """From the return of Postgres until the spool was empty."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario plays on.

    ``chance`` follows from the seed; ``say`` tells each act of the fault, the last of which is its end; ``deliver``
    sends something beside the usual traffic; ``all_sent`` waits until the usual traffic is acknowledged to its end.
    """

    at: Throwaway
    chance: random.Random
    say: Callable[[str], None]
    deliver: Callable[[Intent], Awaitable[None]]
    all_sent: Callable[[], Awaitable[object]]
    measured: Measured = field(default_factory=Measured)

    async def jitter(self, seconds: float) -> None:
        """Wait about so long: half to one and a half times."""
        await asyncio.sleep(seconds * (0.5 + self.chance.random()))

    async def postgres(self, *statements: str, database: str = "") -> None:
        """Run statements on a connection of their own that is allowed to write. Waits for a server that restarts."""
        url = self.at.noted().database_url
        target = f"{url.rpartition('/')[0]}/{database}" if database else url
        connection = await _patiently(lambda: connect(target, name="chaos", server_settings=_WRITING))
        try:
            for statement in statements:
                await connection.execute(statement, timeout=60)
        finally:
            await connection.close(timeout=5)

    async def redis(self, *command: str | int) -> None:
        """Give Redis one command. Waits for a server that restarts."""
        async with open_redis(self.at.noted().redis_url, seconds=5) as client:
            await _patiently(lambda: client.execute_command(*command))  # type: ignore[no-untyped-call]

    async def taken_up(self, pids: Collection[int]) -> None:
        """Measure how long it takes until others have claimed what these killed processes held."""
        seconds = await Claims(self.at.noted().database_url).taken_up(pids)
        self.measured.taken_up_seconds = max(self.measured.taken_up_seconds or 0.0, seconds)

    async def followed_up_again(self, killed_at: float) -> None:
        """Measure how long it takes from ``killed_at`` until an event that comes from now on has been followed up."""
        connection = await connect_once(self.at.noted().database_url)
        try:
            now = await connection.fetchval("SELECT clock_timestamp()")
            after = "SELECT EXISTS (SELECT FROM events WHERE received_at > $1 AND state = 'done')"
            while not await connection.fetchval(after, now):  # noqa: ASYNC110 - another process's row
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            connection.terminate()
        self.measured.taken_up_seconds = round(time.monotonic() - killed_at, 1)

    async def drained(self) -> None:
        """Measure how long it takes from now until the spool is empty, and stays so."""
        began = held = time.monotonic()
        async with open_redis(self.at.noted().redis_url, seconds=5) as client:
            while (now := time.monotonic()) - held < _EMPTY_SECONDS and now - began < _PATIENCE_SECONDS:
                if await _patiently(lambda: client.xlen(SPOOL)):
                    held = time.monotonic()
                await asyncio.sleep(_LOOK_SECONDS)
        self.measured.drained_seconds = round(held - began, 1)


Play = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``does`` says what happens and ``protects`` what keeps every event whole meanwhile, a sentence each.

    ``needs`` names the servers that have to be embedded ones; ``may_refuse`` the answers that are right while the fault
    lasts (0 is none at all), ``may_refuse_large`` those that are right for bodies over 64 KiB. ``within_seconds``
    is how long after the fault and the last delivery everything may take to be finished; ``bounds`` what else is
    promised. ``load`` is its own, where the usual one would show too little. ``replicated``: it is played on an
    installation of its own, whose Redis has replicas and sentinels.
    """

    name: str
    does: str
    protects: str
    play: Play
    needs: frozenset[str] = frozenset()
    may_refuse: Collection[int] = NOTHING
    may_refuse_large: Collection[int] = NOTHING
    within_seconds: float = 30.0
    bounds: Bounds = NO_BOUNDS
    load: Load = USUAL_LOAD
    replicated: bool = False


@dataclass(slots=True)
class Book:
    """The scenarios of one module, in the order in which they are played."""

    scenarios: dict[str, Scenario] = field(default_factory=dict)

    def add(
        self,
        name: str,
        *,
        protects: str,
        needs: Collection[str] = (),
        may_refuse: Collection[int] = NOTHING,
        may_refuse_large: Collection[int] = NOTHING,
        within_seconds: float = 30.0,
        bounds: Bounds = NO_BOUNDS,
        load: Load = USUAL_LOAD,
        replicated: bool = False,
    ) -> Callable[[Play], Play]:
        """Enter the decorated function; the first sentence of its docstring says what it does."""

        def enter(play: Play) -> Play:
            self.scenarios[name] = Scenario(
                name=name,
                does=(play.__doc__ or "").strip(),
                protects=protects,
                play=play,
                needs=frozenset(needs),
                may_refuse=may_refuse,
                may_refuse_large=may_refuse_large,
                within_seconds=within_seconds,
                bounds=bounds,
                load=load,
                replicated=replicated,
            )
            return play

        return enter


_WRITING = {"default_transaction_read_only": "off"}
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_EMPTY_SECONDS = 3.0
"""Longer than ingress needs to find out that Postgres is back: until then it may spool more."""


async def _patiently(ask: Callable[[], Awaitable[ResultT]]) -> ResultT:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await ask()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, RedisError) as error:
            if time.monotonic() > deadline:
                raise PenstockError(f"a server did not come back: {error}") from None
        await asyncio.sleep(0.2)
