"""The hand-over step: changes are given to the application, by HTTP or in this process, in the order of each record."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from penstock.handlers import Handler as PythonHandler
from penstock.handlers import registered
from shared.errors import StoreAway
from shared.handlers.names import clashes
from shared.handlers.settings import TASK_SECONDS, Handler
from shared.handlers.subscriptions import of_python, of_settings
from shared.queue import HAND_OVER_TASK, HANDLERS_QUEUE
from shared.store.handovers import handed_over, handing_over
from shared.store.handovers.handing_over import ClaimedHandover, Delivered, Subscription
from shared.store.handovers.lanes import Search
from shared.store.postgres import Connection, Pool
from workers.hand_over.invoking import invoke
from workers.hand_over.opener import Opener, Opens
from workers.hand_over.posting import Poster
from workers.hand_over.sender import Posts, Sender, tell_of_fault
from workers.hand_over.settlement import Settlement
from workers.hand_over.traces import handing_over_traced
from workers.hand_over.verdicts import judge_fault
from workers.process import WorkerProcess
from workers.transactions import again_on_conflict


T = TypeVar("T")

log = structlog.get_logger("penstock.handlers")

TOGETHER_SECONDS = 0.005
"""What comes in within this time is settled in one transaction."""


class HandingOver:
    """Runs the hand-over task of one worker process. ``run`` is called in the process's main thread.

    ``opener`` opens records and ``poster`` sends messages, other than those of the process where given.
    """

    def __init__(self, process: WorkerProcess, opener: Opens | None = None, poster: Posts | None = None) -> None:
        self._process = process
        self._opener = opener or Opener(process)
        self._poster = poster or Poster()
        self._sender = Sender(self._opener, self._poster, process.tracing)
        self._settlement = Settlement(partial(_in_store, process.pool))
        self._searches: dict[str, Search] = {}

    def run(self, name: str) -> str:
        """Hand over what is due to one handler, for ``TASK_SECONDS`` at most; says how many came through.

        The rest is left to a successor at the end of the queue, so that every handler gets its turn.
        """
        until = time.monotonic() + TASK_SECONDS
        # This process runs one task at a time: what it still holds was left behind by one that was broken off.
        self._process.run(_in_store(self._process.pool, partial(handed_over.give_back, worker=self._process.id)))
        configuration = self._process.watch.current
        by_http = next((handler for handler in configuration.handlers if handler.name == name), None)
        if clash := clashes(configuration.handlers, registered()).get(name):
            log.error("nothing is handed over", reason=clash)
            return clash
        if by_http:
            done = self._process.run(self._by_http(by_http, until))
        elif python := registered().get(name):
            done = self._in_process(python, until)
        else:
            return f"there is no handler {name} here"
        if time.monotonic() > until:
            self._process.run(self._wake(name))
        return f"{done} handed over"

    def close(self) -> None:
        """Close the connections to handlers."""
        self._process.run(self._poster.close())

    # ── in this process ───────────────────────────────────────────────────────────────────────────────────────────

    def _in_process(self, handler: PythonHandler, until: float) -> int:
        subscription = of_python(handler)
        search = self._search(handler.name)
        done = 0
        first = True
        while time.monotonic() < until:
            claimed = self._process.run(self._claim(subscription, 1, search, first=first))
            first = False
            for one in claimed:
                result = self._invoke(handler, one)
                self._process.run(self._settlement.settle(subscription, [result]))
                done += result.state == "done"
            if not claimed and search.over:
                break
        return done

    def _invoke(self, handler: PythonHandler, claimed: ClaimedHandover) -> Delivered:
        """What came of it; raises no Exception but that the task's time is up."""
        policy = self._process.watch.current.handing_over
        opened = self._process.run(self._opened(handler.name, claimed))
        if isinstance(opened, Delivered):
            return opened
        with handing_over_traced(self._process.tracing, handler.name, opened.change):
            return invoke(handler, opened, policy)

    async def _opened(self, handler: str, claimed: ClaimedHandover) -> ClaimedHandover | Delivered:
        try:
            return await self._opener.open(claimed)
        except Exception as error:  # noqa: BLE001 - of whatever kind: it is this one's verdict
            tell_of_fault(handler, claimed, error)
            return judge_fault(claimed, error, self._process.watch.current.handing_over)

    # ── by HTTP ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _by_http(self, handler: Handler, until: float) -> int:
        """Keep as many messages under way as the handler allows; a slow one holds nobody up."""
        subscription = of_settings(handler)
        search = self._search(handler.name)
        under_way: set[asyncio.Task[Delivered]] = set()
        done = 0
        first = True
        fault: Exception | None = None
        try:
            while True:
                if not fault and time.monotonic() < until and (room := handler.concurrency - len(under_way)):
                    try:
                        claimed = await self._claim(subscription, room, search, first=first)
                    except Exception as error:  # noqa: BLE001 - raised below
                        # What is under way was sent: its answers count, whatever keeps others from being claimed.
                        fault = error
                        claimed = []
                    first = False
                    policy = self._process.watch.current.handing_over
                    under_way |= {asyncio.create_task(self._sender.send(handler, one, policy)) for one in claimed}
                    if not under_way and not search.over:
                        continue
                if not under_way:
                    break
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(TOGETHER_SECONDS)
                came_in = {task for task in under_way if task.done()}
                under_way -= came_in
                results = [task.result() for task in came_in]
                await self._settlement.settle(subscription, results)
                done += sum(result.state == "done" for result in results)
        finally:
            for task in under_way:
                task.cancel()
        if fault:
            raise fault
        return done

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _search(self, name: str) -> Search:
        return self._searches.setdefault(name, Search())

    async def _claim(
        self, subscription: Subscription, most: int, search: Search, *, first: bool
    ) -> list[ClaimedHandover]:
        def claim(connection: Connection) -> Coroutine[Any, Any, list[ClaimedHandover]]:
            return handing_over.claim(connection, subscription, self._process.id, most, first=first, search=search)

        return await _in_store(self._process.claims, claim)

    async def _wake(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._process.publisher.publish, HAND_OVER_TASK, HANDLERS_QUEUE, [name])
        except StoreAway as error:
            log.warning("a message could not be sent; the relay will", reason=str(error))


async def _in_store(pool: Pool, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
    async def in_one_connection() -> T:
        async with pool.acquire() as connection:
            return await work(connection)

    return await again_on_conflict(in_one_connection)
