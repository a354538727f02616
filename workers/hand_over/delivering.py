"""The hand-over step: changes are given to the application, by HTTP or in this process, in the order of each record."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import structlog

from penstock.handlers import Handler as PythonHandler
from penstock.handlers import registered
from shared.errors import StoreAway
from shared.handlers.envelope import CONTENT_TYPE, wrap
from shared.handlers.names import clashes
from shared.handlers.settings import TASK_SECONDS, Handler
from shared.handlers.signing import sign
from shared.handlers.subscriptions import of_python, of_settings
from shared.private import open_record
from shared.queue import HAND_OVER_TASK, HANDLERS_QUEUE
from shared.sealing import BrokenSeal
from shared.store.handovers import handed_over, handing_over
from shared.store.handovers.handing_over import ClaimedHandover, Delivered, Subscription
from shared.store.postgres import AWAY, Connection
from shared.tracing import with_traceparent
from workers.calling import NoAnswer
from workers.hand_over.discretion import discreet
from workers.hand_over.invoking import invoke
from workers.hand_over.metrics import hand_over_metrics
from workers.hand_over.posting import Poster
from workers.hand_over.traces import handing_over_traced
from workers.hand_over.verdicts import judge_answer, judge_silence, removed
from workers.process import WorkerProcess
from workers.transactions import again_on_conflict


T = TypeVar("T")

log = structlog.get_logger("penstock.handlers")

TOGETHER_SECONDS = 0.005
"""What comes in within this time is settled in one transaction."""

STORE_AWAY_SECONDS = 1.0


class HandingOver:
    """Runs the hand-over task of one worker process. ``run`` is called in the process's main thread."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._poster = Poster()

    def run(self, name: str) -> str:
        """Hand over what is due to one handler, for ``TASK_SECONDS`` at most; says how many came through.

        The rest is left to a successor at the end of the queue, so that every handler gets its turn.
        """
        until = time.monotonic() + TASK_SECONDS
        # This process runs one task at a time: what it still holds was left behind by one that was broken off.
        self._process.run(self._in_store(partial(handed_over.give_back, worker=self._process.id)))
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
        done = 0
        first = True
        while time.monotonic() < until:
            claimed = self._process.run(self._claim(subscription, 1, first=first))
            first = False
            if not claimed:
                break
            with handing_over_traced(self._process.tracing, handler.name, claimed[0].change):
                result = invoke(handler, claimed[0], self._process.watch.current.handing_over)
            self._process.run(self._settle(subscription, [result]))
            done += result.state == "done"
        return done

    # ── by HTTP ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _by_http(self, handler: Handler, until: float) -> int:
        """Keep as many messages under way as the handler allows; a slow one holds nobody up."""
        subscription = of_settings(handler)
        under_way: set[asyncio.Task[Delivered]] = set()
        done = 0
        first = True
        try:
            while True:
                if time.monotonic() < until and (room := handler.concurrency - len(under_way)):
                    claimed = await self._claim(subscription, room, first=first)
                    first = False
                    under_way |= {asyncio.create_task(self._send(handler, one)) for one in claimed}
                if not under_way:
                    return done
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(TOGETHER_SECONDS)
                came_in = {task for task in under_way if task.done()}
                under_way -= came_in
                results = [task.result() for task in came_in]
                await self._settle(subscription, results)
                done += sum(result.state == "done" for result in results)
        finally:
            for task in under_way:
                task.cancel()

    async def _send(self, handler: Handler, claimed: ClaimedHandover) -> Delivered:
        if claimed.change is None:
            return removed(claimed)
        policy = self._process.watch.current.handing_over
        body = wrap(claimed.change)
        headers = sign(claimed.change.id, datetime.now(UTC), body, (handler.secret, *handler.older_secrets))
        try:
            with handing_over_traced(self._process.tracing, handler.name, claimed.change):
                sent = with_traceparent({**headers, "content-type": CONTENT_TYPE})
                answer = await self._poster.post(handler, sent, body)
        except NoAnswer as error:
            return judge_silence(claimed, error, policy)
        said = discreet(answer.body.decode(errors="replace"), claimed.change)
        return judge_answer(claimed, replace(answer, body=said.encode()), policy)

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _claim(self, subscription: Subscription, most: int, *, first: bool) -> list[ClaimedHandover]:
        def claim(connection: Connection) -> Coroutine[Any, Any, list[ClaimedHandover]]:
            return handing_over.claim(connection, subscription, self._process.id, most, first=first)

        return [await self._opened(claimed) for claimed in await self._in_store(claim)]

    async def _opened(self, claimed: ClaimedHandover) -> ClaimedHandover:
        """With the record as the application gets it; one whose key was destroyed is not kept any more."""
        change = claimed.change
        if change is None or change.record is None or change.sealed is None:
            return claimed

        async def unseal() -> str:
            return open_record(
                self._process.keys,
                change.provider,
                change.account,
                change.kind,
                change.external_id,
                change.record or "{}",
                change.sealed,
            )

        try:
            record = await self._process.unsealing(unseal)
        except BrokenSeal as error:
            log.warning("a record cannot be opened", change=change.id, reason=str(error))
            return claimed._replace(change=None)
        return claimed._replace(change=replace(change, record=record, sealed=None))

    async def _settle(self, subscription: Subscription, results: Sequence[Delivered]) -> None:
        """Settle, and if the store is away until it is back: what was delivered must not be delivered again for that.

        A task that is broken off meanwhile leaves it to the relay, and the handler may see the change twice.
        """
        while True:
            with contextlib.suppress(*AWAY):
                held = await self._in_store(lambda connection: handed_over.commit(connection, subscription, results))
                if held < len(results):
                    log.warning("hand-overs were taken over meanwhile", handler=subscription.name, held=held)
                hand_over_metrics().settled(subscription.name, results)
                _tell_of_parked(subscription.name, results)
                return
            await asyncio.sleep(STORE_AWAY_SECONDS)

    async def _in_store(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        async def in_one_connection() -> T:
            async with self._process.pool.acquire() as connection:
                return await work(connection)

        return await again_on_conflict(in_one_connection)

    async def _wake(self, name: str) -> None:
        try:
            await asyncio.to_thread(self._process.publisher.publish, HAND_OVER_TASK, HANDLERS_QUEUE, [name])
        except StoreAway as error:
            log.warning("a message could not be sent; the relay will", reason=str(error))


def _tell_of_parked(handler: str, results: Sequence[Delivered]) -> None:
    for result in results:
        if result.state == "parked":
            change = result.handover.change
            log.warning(
                "a change is parked",
                handler=handler,
                account=change.account if change else None,
                event_id=str(change.event_id) if change and change.event_id else None,
                change=change.id if change else None,
                # Its detail may quote what the application said of the change; `penstock handovers` shows it.
                reason=result.reason,
            )
