"""The flow of one task: events and fetches that are due are taken up, planned, called for and stored, side by side.

A message is a wake-up: the task takes whatever is due of its provider, of all accounts in turn, until nothing is left.
"""

import time

from shared.providers.registry import PROVIDERS
from shared.queue import fetch_task, plan_task
from shared.store import fetching, opening, planning
from shared.store.fairness import Room, next_after
from shared.store.fetching import ClaimedFetch
from shared.store.planning import ClaimedEvent
from shared.store.postgres import Connection
from workers.follow_up.planning import read
from workers.follow_up.window import Window, open_window
from workers.process import WorkerProcess


TASK_SECONDS = 30.0
"""After this long a task stops taking more and leaves the rest to its successor, so that no task meets its limit."""

LOOK_SECONDS = 0.2
"""While calls are under way and nothing else is due, the task looks again so often. What comes in meanwhile has a
message of its own; a look every 20 ms cost ingress, on a busy machine, twice the time for its slowest hundredth."""

SUSPECTS_SECONDS = 1.0
"""Suspects are tried with nothing else in hand; after so long without such a moment the task makes one."""


async def follow_up(process: WorkerProcess, provider: str) -> str:
    """Follow up whatever is due of the provider; says what was done.

    After ``TASK_SECONDS`` it takes no more and leaves the rest to a task of its own.
    """
    until = time.monotonic() + TASK_SECONDS
    async with open_window(process, PROVIDERS[provider].follow_up.calls_at_once) as window:
        flow = _Flow(process, provider, window)
        while (more := await flow.step()) and time.monotonic() < until:
            continue
    if more:
        await process.wake(provider, plan_task(provider))
    return f"{flow.planned} planned, {flow.fetched} fetched"


class _Flow:
    """Whose turn it is, and what was done so far."""

    def __init__(self, process: WorkerProcess, provider: str, window: Window) -> None:
        self._process = process
        self._provider = provider
        self._window = window
        self._suspects_turn = True
        self._suspects_at = time.monotonic() + SUSPECTS_SECONDS
        self._events_after = ""
        self._fetches_after = ""
        self.planned = 0
        self.fetched = 0

    async def step(self) -> bool:
        """Take up what is due and there is room for, or wait; False when nothing is left.

        After a suspect it is the others' turn, so that a row of slow suspects holds nobody up.
        """
        if not self._window.idle and time.monotonic() > self._suspects_at:
            await self._make_way_for_suspects()
        if not self._window.room().whole:
            await self._window.moved(LOOK_SECONDS)
            return True
        suspects, self._suspects_turn = self._suspects_turn and self._window.idle, True
        from_the_front = not (self._events_after or self._fetches_after)
        if await self._fetch(suspects=suspects) + await self._plan(suspects=suspects and self._window.idle):
            return True
        if not from_the_front:
            return True
        if self._window.idle:
            return not suspects or not self._suspects_turn
        await self._window.moved(LOOK_SECONDS)
        return True

    async def _make_way_for_suspects(self) -> None:
        self._suspects_at = time.monotonic() + SUSPECTS_SECONDS
        async with self._process.pool.acquire() as connection:
            wait = await planning.suspects_wait(connection, self._provider)
        if wait:
            await self._window.drained()

    async def _fetch(self, *, suspects: bool) -> int:
        """Begin calls that were put off, or that other tasks left."""
        room = self._window.room_for_calls()
        if not room.whole:
            return 0

        async def claim(connection: Connection) -> list[ClaimedFetch]:
            worker, after = self._process.id, self._fetches_after
            return await fetching.claim(connection, self._provider, room, worker, suspects=suspects, after=after)

        claimed = await self._process.take(claim, list)
        self._fetches_after = next_after(room, (fetch.account for fetch in claimed))
        self._window.make(claimed)
        self.fetched += len(claimed)
        if claimed and claimed[0].suspect:
            self._suspects_turn = False
            await self._window.drained()
        return len(claimed)

    async def _plan(self, *, suspects: bool) -> int:
        """Plan events, and begin the first of their calls."""
        process, room = self._process, self._events_room()
        if not room.whole:
            return 0

        async def claim(connection: Connection) -> list[ClaimedEvent]:
            after = self._events_after
            return await planning.claim(connection, self._provider, room, process.id, suspects=suspects, after=after)

        async with process.holding(claim) as claimed:
            self._events_after = next_after(room, (event.account for event in claimed))
            if not claimed:
                return 0
            plans = [await read(process, event) for event in claimed]
            start = opening.Start(process.id, self._window.room_for_calls())

            async def commit(connection: Connection) -> planning.Committed:
                configuration = process.watch.current
                return await planning.commit(
                    connection,
                    plans,
                    configuration.following_up.coalesce_seconds,
                    start,
                    debounce_seconds=configuration.debounce[self._provider],
                )

            done = await process.take(commit, lambda committed: committed.started)
        self._window.make(done.started)
        self.planned += len(claimed)
        self.fetched += len(done.started)
        self._suspects_turn = self._suspects_turn and not claimed[0].suspect
        await self._share([fetch.id for fetch in done.opened if fetch.due])
        return len(claimed)

    def _events_room(self) -> Room:
        """As for calls, for most events need one; a batch at most."""
        room = self._window.room()
        return Room(min(room.whole, self._process.watch.current.following_up.batch_events), room.others, room.busy)

    async def _share(self, due: list[int]) -> None:
        """Tell other processes of calls that there was no room for here."""
        batch = self._process.watch.current.following_up.concurrent_calls
        for start in range(0, len(due), batch):
            await self._process.wake(self._provider, fetch_task(self._provider), due[start : start + batch])
