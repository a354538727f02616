"""The calls that a task has under way: as many as it may, of no account all, stored together as they come in.

A slow call holds up its own place and nothing else: what has come in gives its place free, and is stored meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from shared.store.fairness import Room
from shared.store.fetching import ClaimedFetch, Result
from workers.follow_up.attempting import attempt
from workers.follow_up.storing import STORE_RECORDS, not_kept, prepare, store
from workers.process import WorkerProcess


TOGETHER_SECONDS = 0.004
"""So long what has come in waits for what may come in a moment later: each transaction costs a disk flush."""


class Window:
    """Places for calls. ``room`` says how many may begin, ``make`` begins them.

    ``at_once`` is how many an account may have under way, whatever room there is; None: no such bound.
    """

    def __init__(self, process: WorkerProcess, tasks: asyncio.TaskGroup, at_once: int | None) -> None:
        self._process = process
        self._tasks = tasks
        self._at_once = at_once
        self._under_way: Counter[str] = Counter()
        self._unstored: Counter[str] = Counter()
        self._held: set[int] = set()
        self._came_in: asyncio.Queue[tuple[ClaimedFetch, Result | None]] = asyncio.Queue()
        self._records = 0
        self._moved = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether no call is under way, and nothing waits to be stored."""
        return not self._held

    @property
    def places(self) -> int:
        """How many calls may be under way."""
        return self._process.watch.current.following_up.concurrent_calls

    def room(self) -> Room:
        """The places that are free, and how many of them an account may have.

        None while as many answers wait to be stored as there are places, or more records than go into one transaction:
        they are in memory.
        """
        places = self.places
        free = min(places - self._under_way.total(), 2 * places - len(self._held))
        free = max(0, free) if self._records < STORE_RECORDS else 0
        busy = {account: _share(free, self._under_way[account]) for account in self._unstored}
        return Room(free, _share(free, 0), busy)

    def room_for_calls(self) -> Room:
        """The same, with no account over its bound, which counts answers until they are stored.

        Events may be planned beyond it.
        """
        room, most = self.room(), self._at_once
        if most is None:
            return room
        busy = {account: min(share, max(0, most - self._unstored[account])) for account, share in room.busy.items()}
        return Room(room.whole, min(room.others, most), busy)

    def make(self, fetches: Sequence[ClaimedFetch]) -> None:
        """Begin calls that this process holds; they are let go when what came of them is stored."""
        for fetch in fetches:
            self._held.add(fetch.id)
            self._under_way[fetch.account] += 1
            self._unstored[fetch.account] += 1
            self._tasks.create_task(self._call(fetch))

    async def moved(self, seconds: float) -> None:
        """Wait until something was stored since the last time, or so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        self._moved.clear()

    async def drained(self) -> None:
        """Wait until it is idle."""
        while not self.idle:
            await self._moved.wait()
            self._moved.clear()

    async def store_what_comes_in(self) -> None:
        """Until cancelled."""
        while True:
            batch = [await self._came_in.get()]
            if len(self._held) > 1:
                await asyncio.sleep(TOGETHER_SECONDS)
            records = _records(batch[0])
            while not self._came_in.empty() and records < STORE_RECORDS:
                batch.append(self._came_in.get_nowait())
                records += _records(batch[-1])
            await store(self._process, [result for _, result in batch if result is not None])
            self._records -= records
            self._let_go([fetch for fetch, _ in batch])

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work beside the calls, of the same life."""
        return self._tasks.create_task(work)

    def stir(self) -> None:
        """Wake who waits until something has moved."""
        self._moved.set()

    def let_everything_go(self) -> None:
        """Whatever is still under way is due again."""
        self._process.let_go(self._held)

    async def _call(self, fetch: ClaimedFetch) -> None:
        """Whatever goes wrong is the verdict of this one."""
        try:
            result = await attempt(self._process, fetch)
            came_in = (fetch, result and await prepare(self._process, result))
        except Exception as error:  # noqa: BLE001 - told by the verdict; whatever it is, the other calls go on
            came_in = (fetch, not_kept(self._process, fetch, error))
        self._under_way[fetch.account] -= 1
        self._records += _records(came_in)
        self._came_in.put_nowait(came_in)

    def _let_go(self, fetches: Sequence[ClaimedFetch]) -> None:
        ids = [fetch.id for fetch in fetches]
        self._held.difference_update(ids)
        self._process.let_go(ids)
        self._unstored -= Counter(fetch.account for fetch in fetches)
        self._moved.set()


@asynccontextmanager
async def open_window(process: WorkerProcess, at_once: int | None = None) -> AsyncIterator[Window]:
    """A window for the time of the block, which ends when its calls have; an error ends them all at once."""
    window: Window | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            window = Window(process, tasks, at_once)
            storing = tasks.create_task(window.store_what_comes_in())
            yield window
            await window.drained()
            storing.cancel()
    finally:
        if window is not None:
            window.let_everything_go()


def _share(free: int, mine: int) -> int:
    """How many more of ``free`` places an account with ``mine`` may take: all it has is at most twice what is left.

    So one account alone uses two places of three, of many greedy ones none uses up the last: dynamic thresholds, as
    in shared packet buffers (Choudhury and Hahne, 1998, https://doi.org/10.1109/90.664262).
    """
    return max(min(free, 1) if mine == 0 else 0, (2 * free - mine) // 3)


def _records(came_in: tuple[ClaimedFetch, Result | None]) -> int:
    result = came_in[1]
    return result.records if result else 0
