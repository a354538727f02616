"""The flow of one task: events and fetches that are due are taken up, planned, called for and stored, side by side.

A message is a wake-up: the task takes whatever is due of its provider, of all accounts in turn, until nothing is left.
"""

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import asyncpg

from shared.errors import StoreAway
from shared.providers.registry import PROVIDERS
from shared.queue import fetch_task, plan_task, queue_of
from shared.store import due, fetching, opening, planning
from shared.store.due import Due
from shared.store.fairness import Room, next_after
from shared.store.fetching import ClaimedFetch
from shared.store.planning import ClaimedEvent, Planned
from shared.store.postgres import AWAY, Connection, is_about_data
from workers.follow_up.planning import unstorable
from workers.follow_up.reader import Reader
from workers.follow_up.window import Window, open_window
from workers.process import WorkerProcess


if TYPE_CHECKING:
    from uuid import UUID

TASK_SECONDS = 30.0
"""After this long a task stops taking more and leaves the rest to its successor, so that no task meets its limit."""

LOOK_SECONDS = 0.2
"""While calls are under way and nothing else is due, the task looks again so often. What comes in meanwhile has a
message of its own; a look every 20 ms cost ingress, on a busy machine, twice the time for its slowest hundredth."""

APART_SECONDS = 0.01
"""So long after a claim the next one waits for more places than a few: one for a few costs as much as one for many."""

STILL_DUE_SECONDS = 0.05
"""After events were taken up, more are taken to be due for so long without a look: a look costs as much as a claim."""

LAST_READS_SECONDS = 30.0
"""So long large bodies that are being read are waited for at the end; what is not read by then is due again."""

SUSPECTS_SECONDS = 1.0
"""Suspects are tried with nothing else in hand; after so long without such a moment the task makes one. For about as
long it tries one after the other, each alone, before it is the others' turn."""


async def follow_up(process: WorkerProcess, provider: str) -> str:
    """Follow up whatever is due of the provider; says what was done.

    After ``TASK_SECONDS`` it takes no more and leaves the rest to a task of its own. Where Postgres does not answer it
    takes no more either: what is under way is stored first, if that may be. Raises what Postgres said.
    """
    until = time.monotonic() + TASK_SECONDS
    fault: Exception | None = None
    more = False
    async with open_window(process, PROVIDERS[provider].follow_up.calls_at_once) as window:
        flow = _Flow(process, provider, window)
        try:
            while (more := await flow.step()) and time.monotonic() < until:
                continue
            await flow.read_out(LAST_READS_SECONDS)
        except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
            fault = error
        finally:
            flow.let_go()
    if fault:
        raise fault
    if more:
        await process.wake(provider, plan_task(provider))
    return f"{flow.planned} planned, {flow.fetched} fetched"


class _Flow:
    """Whose turn it is, and what was done so far."""

    def __init__(self, process: WorkerProcess, provider: str, window: Window) -> None:
        self._process = process
        self._provider = provider
        self._window = window
        self._reader = Reader(process, window.spawn, window.stir)
        self._claimed: set[UUID] = set()
        self._suspects_turn = True
        self._row_began: float | None = None
        self._suspects_at = time.monotonic() + SUSPECTS_SECONDS
        self._found: Due | None = None
        self._looked_at = 0.0
        self._claimed_at = 0.0
        self._events_after = ""
        self._fetches_after = ""
        self._served: frozenset[str] = frozenset()
        self.planned = 0
        self.fetched = 0

    async def step(self) -> bool:
        """Take up what is due and there is room for, or wait; False when nothing is left.

        After a row of suspects it is the others' turn, so that slow suspects hold nobody up.
        """
        if self._reader.has_read:
            await self._commit(self._reader.take())
        if not self._idle and time.monotonic() > self._suspects_at:
            await self._make_way_for_suspects()
        if not self._has_room():
            await self._wait_for_room()
            return True
        suspects, self._suspects_turn = self._suspects_turn and self._idle, True
        if not suspects:
            self._row_began = None
        from_the_front = not (self._events_after or self._fetches_after)
        looked_before = self._found if time.monotonic() < self._looked_at + STILL_DUE_SECONDS else None
        if looked_before is None:
            self._looked_at = time.monotonic()
        found = looked_before or await self._look()
        alone, taken = suspects and found.suspects, 0
        if found.fetches or alone:
            taken += await self._fetch(suspects=alone)
        if (found.events or alone) and not (alone and taken):
            taken += await self._plan(suspects=alone)
        self._found = found if taken and found.events else None
        if not taken:
            # Whoever is behind was asked: next time from the front, and not at once again for ever.
            self._events_after = self._fetches_after = ""
        more = bool(taken or looked_before or ((found.fetches or found.events) and not from_the_front))
        return more or await self._wait_for_more(suspects=found.suspects and not suspects)

    async def _wait_for_more(self, *, suspects: bool) -> bool:
        """Nothing was taken: whether there are suspects, if nothing is under way either; else wait for what is."""
        if self._idle:
            return suspects
        await self._window.moved(LOOK_SECONDS)
        return True

    async def read_out(self, seconds: float) -> None:
        """Plan what is read within so long; nothing more is taken up."""
        until = time.monotonic() + seconds
        while not self._reader.idle and time.monotonic() < until:
            await self._go_on()

    async def _drained(self) -> None:
        """Wait until nothing is read, called for or stored any more."""
        while not self._idle:
            await self._go_on()

    async def _go_on(self) -> None:
        if self._reader.has_read:
            await self._commit(self._reader.take())
        else:
            await self._window.moved(LOOK_SECONDS)

    def let_go(self) -> None:
        """Whatever was not planned is due again."""
        self._reader.give_up()
        self._process.let_go(self._claimed)

    @property
    def _idle(self) -> bool:
        return self._window.idle and self._reader.idle

    def _has_room(self) -> bool:
        """Whether there is room for those whose events were just left, or for any; for many right after a claim."""
        if self._reader.full:
            return False
        room = self._window.room()
        fewest = 2 * self._window.places // 5 if time.monotonic() < self._claimed_at + APART_SECONDS else 1
        return max(map(room.share, self._served), default=room.whole) >= max(1, fewest)

    async def _wait_for_room(self) -> None:
        if (apart := self._claimed_at + APART_SECONDS - time.monotonic()) > 0:
            await self._window.moved(apart)
        else:
            self._served = frozenset()
            await self._window.moved(LOOK_SECONDS)

    async def _look(self) -> Due:
        async with self._process.claims.acquire() as connection:
            return await due.look(connection, self._provider)

    async def _make_way_for_suspects(self) -> None:
        self._suspects_at = time.monotonic() + SUSPECTS_SECONDS
        if (await self._look()).suspects:
            await self._drained()

    async def _fetch(self, *, suspects: bool) -> int:
        """Begin calls that were put off, or that other tasks left."""
        room, began = self._window.room_for_calls().without(self._absent()), time.monotonic()
        if not room.whole:
            return 0

        async def claim(connection: Connection) -> list[ClaimedFetch]:
            worker, after = self._process.id, self._fetches_after
            return await fetching.claim(connection, self._provider, room, worker, suspects=suspects, after=after)

        claimed = await self._process.take(claim, list, self._process.claims)
        self._fetches_after = next_after(room, (fetch.account for fetch in claimed))
        self._window.make(claimed)
        self.fetched += len(claimed)
        if claimed and claimed[0].suspect:
            await self._window.drained()
            self._row_began = self._row_began or began
            self._suspects_turn = time.monotonic() - self._row_began < SUSPECTS_SECONDS
        return len(claimed)

    async def _plan(self, *, suspects: bool) -> int:
        """Plan events, and begin the first of their calls."""
        process, room = self._process, self._events_room()
        if not room.whole:
            return 0

        async def claim(connection: Connection) -> list[ClaimedEvent]:
            after = self._events_after
            return await planning.claim(connection, self._provider, room, process.id, suspects=suspects, after=after)

        self._claimed_at = time.monotonic()
        claimed = await process.take(claim, list, process.claims)
        self._events_after = next_after(room, (event.account for event in claimed))
        # With room left over, whatever else is due is of these accounts.
        self._served = frozenset(event.account for event in claimed if len(claimed) < room.whole)
        if not claimed:
            return 0
        self._claimed.update(event.id for event in claimed)
        process.metrics.taken_up(self._provider, claimed)
        await self._reader.begin(claimed)
        await self._commit(self._reader.take())
        if claimed[0].suspect:
            self._suspects_turn = False
            await self._drained()
        return len(claimed)

    async def _commit(self, plans: list[Planned]) -> None:
        """Write the plans of what was read; one that cannot be written is told from the others."""
        if not plans:
            return
        try:
            await self._commit_together(plans)
        except Exception as error:
            if not is_about_data(error):
                raise
            for plan in plans:
                await self._commit_alone(plan)

    async def _commit_alone(self, plan: Planned) -> None:
        """Once more by itself: what was raised may have been about a neighbour, or about the moment."""
        try:
            await self._commit_together([plan])
        except Exception as error:
            if not is_about_data(error):
                raise
            await self._commit_together([unstorable(plan, error)])

    async def _commit_together(self, plans: list[Planned]) -> None:
        process, began = self._process, time.monotonic()
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

        done = await process.take(commit, lambda committed: committed.started, process.pool)
        events = [plan.event.id for plan in plans]
        self._claimed.difference_update(events)
        process.let_go(events)
        process.metrics.done(self._provider, done.done)
        process.metrics.put_off(self._provider, done.put_off)
        if process.tracing:
            about: dict[str, str | int] = {
                "messaging.destination.name": queue_of(self._provider),
                "penstock.provider": self._provider,
                "penstock.events": len(plans),
            }
            process.tracing.steps("plan", events, about, time.monotonic() - began)
        self._window.make(done.started)
        self.planned += len(plans)
        self.fetched += len(done.started)
        await self._share([fetch.id for fetch in done.opened if fetch.due])

    def _events_room(self) -> Room:
        """As for calls, for most events need one; a batch at most."""
        room = self._window.room()
        whole = min(room.whole, self._process.watch.current.following_up.batch_events)
        return Room(whole, room.others, room.busy).without(self._absent())

    def _absent(self) -> Collection[str]:
        """Accounts whose settings have vanished: what is theirs waits until they are back, or removed."""
        return self._process.watch.absent(self._provider)

    async def _share(self, due: list[int]) -> None:
        """Tell other processes of calls that there was no room for here."""
        batch = self._process.watch.current.following_up.concurrent_calls
        for start in range(0, len(due), batch):
            await self._process.wake(self._provider, fetch_task(self._provider), due[start : start + batch])
