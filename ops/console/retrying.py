"""Retrying or discarding many events in the background of the console, one batch of work at a time.

A retry is a replay as commands make it: a row keeps its place, so that the same asked for again, here or by command,
goes on where this one was broken off.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from ops.cli.store import writing_store
from shared.errors import PenstockError
from shared.settings import Settings
from shared.store import discarding, replaying, replays
from shared.store.selecting import Selection


_REMEMBERED: Final = 50


class TooMany(PenstockError):
    """Another retry is under way: one at a time, so that live traffic comes through."""


class Order(NamedTuple):
    """What an operator asks for: these selections one after the other, why, and who asks."""

    selections: Sequence[Selection]
    reason: str
    who: str


class Background:
    """Works on one order at a time; what ended early is remembered for its page."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._running: int | None = None
        self._problems: OrderedDict[int, str] = OrderedDict()

    def runs(self, replay_id: int) -> bool:
        """Whether this process works on this replay now."""
        return self._running == replay_id

    def problem(self, replay_id: int) -> str | None:
        """Why a replay of this process ended early."""
        return self._problems.get(replay_id)

    async def retry(self, order: Order) -> int:
        """Begin, and return the id of the first replay. Raises TooMany, UnderWay, StoreAway."""
        began: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def failed(error: PenstockError) -> None:
            if not began.done():
                began.set_exception(error)

        self._start(self._retry(order, began), failed)
        return await began

    def discard(self, order: Order) -> None:
        """Begin. Raises TooMany."""
        self._start(self._discard(order), lambda _: None)

    async def close(self) -> None:
        """Stop; the batch that is under way is undone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None], failed: Callable[[PenstockError], None]) -> None:
        if self._task is not None and not self._task.done():
            work.close()
            raise TooMany("Another retry or discard is under way; begin this one when it has ended.")
        self._task = asyncio.create_task(self._watch(work, failed))

    async def _watch(self, work: Coroutine[Any, Any, None], failed: Callable[[PenstockError], None]) -> None:
        try:
            await work
        except PenstockError as error:
            self._note(str(error))
            failed(error)
        except Exception as error:  # noqa: BLE001 - its page says that it ended, whatever ended it
            structlog.get_logger("penstock.console").exception("work on many events ended", reason=type(error).__name__)
            self._note("it ended unexpectedly; the console's log says why")
            failed(PenstockError("it ended unexpectedly; the console's log says why"))
        finally:
            self._running = None

    def _note(self, problem: str) -> None:
        if self._running is not None:
            self._problems[self._running] = problem
            if len(self._problems) > _REMEMBERED:
                self._problems.popitem(last=False)

    async def _retry(self, order: Order, began: "asyncio.Future[int]") -> None:
        async with writing_store(self._settings) as connection:
            for selection in order.selections:
                asked = {name: value for name, value in selection._asdict().items() if value}
                wanted = replays.Order("events", asked, None, None, order.reason, order.who)
                async with replays.carried_out(connection, wanted) as run:
                    self._running = run.id
                    self._problems.pop(run.id, None)
                    if not began.done():
                        began.set_result(run.id)
                    async for _ in replaying.replay(
                        connection,
                        selection._replace(since=run.since, until=run.until),
                        note=run.note,
                        after=UUID(run.position) if run.position else None,
                        replay_id=run.id,
                    ):
                        pass

    async def _discard(self, order: Order) -> None:
        async with writing_store(self._settings) as connection:
            for selection in order.selections:
                async for _ in discarding.discard(connection, selection, reason=order.reason, who=order.who):
                    pass
