"""Events that were claimed are read side by side, and each is planned as soon as it is read.

Small bodies come with their rows. Large ones are in the blob store: as many are read at once as there is memory for,
and none holds a small one up. While that store does not answer one event at a time tries it, and those that wait
are put off with it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from shared.store.planning import ClaimedEvent, Planned
from workers.follow_up.planning import read
from workers.process import WorkerProcess


BYTES_AT_ONCE: Final = 64 * 1024 * 1024
"""So much of large bodies is read at once; one that is larger is read alone."""

LARGE_AT_ONCE: Final = 8
HELD: Final = 100
"""So many events wait in this process for the blob store, or their turn at it; with more no event is claimed."""

SOON_SECONDS: Final = 0.5
"""So long those that were claimed together are waited for, to be committed together; then whatever is read is."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Reader:
    """Reads what it is given. ``spawn`` starts a task that somebody watches; ``moved`` is told of each that is read."""

    def __init__(self, process: WorkerProcess, spawn: Spawn, moved: Callable[[], None]) -> None:
        self._process = process
        self._spawn = spawn
        self._moved = moved
        self._places = _Places()
        self._reading: dict[ClaimedEvent, asyncio.Task[None]] = {}
        self._read: list[Planned] = []

    @property
    def idle(self) -> bool:
        """Whether it reads nothing, and nothing that was read waits to be taken."""
        return not self._reading and not self._read

    @property
    def full(self) -> bool:
        """Whether as many events wait here as may."""
        return len(self._reading) >= HELD

    @property
    def has_read(self) -> bool:
        """Whether anything that was read waits to be taken."""
        return bool(self._read)

    async def begin(self, events: Sequence[ClaimedEvent]) -> None:
        """Read these; comes back when all the small ones are read, or after ``SOON_SECONDS``."""
        for event in events:
            self._reading[event] = self._spawn(self._read_one(event))
        if small := [self._reading[event] for event in events if event.blob is None]:
            await asyncio.wait(small, timeout=SOON_SECONDS)

    def take(self) -> list[Planned]:
        """What was read since the last time, in the order of the events."""
        read, self._read = sorted(self._read, key=lambda plan: plan.event.id), []
        return read

    def give_up(self) -> None:
        """Stop reading."""
        for task in self._reading.values():
            task.cancel()
        self._reading.clear()

    async def _read_one(self, event: ClaimedEvent) -> None:
        if event.blob is None:
            plan = await read(self._process, event)
        else:
            plan = await self._places.read(self._process, event)
        self._reading.pop(event, None)
        self._read.append(plan)
        self._moved()


class _Places:
    """Who may read from the blob store: within bounds, and one at a time while it does not answer."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._reading = 0
        self._bytes = 0
        self._away: Planned | None = None
        self._found_away = 0

    async def read(self, process: WorkerProcess, event: ClaimedEvent) -> Planned:
        found_away = self._found_away
        async with self._changed:
            await self._changed.wait_for(lambda: self._found_away > found_away or self._has_place(event))
            if self._away and self._found_away > found_away:
                # The store was found to be away while this one waited: it waits as those did that tried it.
                return Planned(event, put_off=self._away.put_off)
            self._reading += 1
            self._bytes += event.body_bytes
        plan: Planned | None = None
        try:
            plan = await read(process, event)
        finally:
            async with self._changed:
                self._reading -= 1
                self._bytes -= event.body_bytes
                if plan is not None:
                    self._away = plan if plan.put_off else None
                    self._found_away += bool(plan.put_off)
                self._changed.notify_all()
        return plan

    def _has_place(self, event: ClaimedEvent) -> bool:
        if not self._reading:
            return True
        most = 1 if self._away else LARGE_AT_ONCE
        return self._reading < most and self._bytes + event.body_bytes <= BYTES_AT_ONCE
