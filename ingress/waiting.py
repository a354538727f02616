"""Requests that wait for a store: they queue up, are taken in batches, and none waits past its time."""

import asyncio
from collections import deque
from itertools import islice
from typing import NamedTuple

from shared.errors import StoreAway
from shared.store.inbox import NewEvent


class Waiting(NamedTuple):
    """An event and whoever waits for it to be kept."""

    event: NewEvent
    kept: "asyncio.Future[None]"

    def settle(self, error: Exception | None = None) -> None:
        """Say that it is kept, or why not; only the first word counts."""
        if self.kept.done():
            return
        if error:
            self.kept.set_exception(error)
        else:
            self.kept.set_result(None)


class WaitingRoom:
    """A queue of waiting requests, in the order of their arrival."""

    def __init__(self, store: str, *, seconds: float, batch_events: int) -> None:
        self._store = store
        self._seconds = seconds
        self._batch_events = batch_events
        self._queue: deque[Waiting] = deque()
        self._unsettled: deque[tuple[float, asyncio.Future[None]]] = deque()
        """With the time up to which each may wait. All may wait equally long, so the oldest is always the first."""
        self._timer: asyncio.TimerHandle | None = None
        self._arrived = asyncio.Event()

    async def wait(self, event: NewEvent) -> None:
        """Return once the event is settled as kept. Raises what it was settled with, or StoreAway after the time."""
        loop = asyncio.get_running_loop()
        kept = loop.create_future()
        self._queue.append(Waiting(event, kept))
        self._unsettled.append((loop.time() + self._seconds, kept))
        self._arrived.set()
        # One timer for all: one for each would cost every request, and hardly any ever goes off.
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._time_is_up)
        try:
            await kept
        finally:
            self._forget_settled()

    async def arrival(self) -> None:
        """Return when somebody waits to be taken."""
        await self._arrived.wait()

    def take(self) -> list[Waiting]:
        """The next batch, without those who were settled meanwhile; may be empty."""
        count = min(self._batch_events, len(self._queue))
        batch = [waiting for waiting in islice(self._queue, count) if not waiting.kept.done()]
        for _ in range(count):
            self._queue.popleft()
        if not self._queue:
            self._arrived.clear()
        return batch

    def send_away(self, reason: str) -> None:
        """Settle everybody with StoreAway, also those who were taken: their events may still be kept, late."""
        for _, kept in self._unsettled:
            if not kept.done():
                kept.set_exception(StoreAway(reason))

    def _time_is_up(self) -> None:
        self._forget_settled()
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._unsettled and self._unsettled[0][0] <= now:
            _, kept = self._unsettled.popleft()
            if not kept.done():
                kept.set_exception(StoreAway(f"{self._store} did not keep the event in time"))
        self._timer = loop.call_at(self._unsettled[0][0], self._time_is_up) if self._unsettled else None

    def _forget_settled(self) -> None:
        while self._unsettled and self._unsettled[0][1].done():
            self._unsettled.popleft()
