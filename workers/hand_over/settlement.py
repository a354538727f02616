"""Writing down what came of hand-overs: each by itself where one of them cannot be stored with the others."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

import asyncpg
import structlog

from shared.store.handovers import handed_over
from shared.store.handovers.handing_over import Delivered, Subscription
from shared.store.postgres import ABOUT_DATA, AWAY, Connection
from workers.hand_over.metrics import hand_over_metrics


log = structlog.get_logger("penstock.handlers")

STORE_AWAY_SECONDS: Final = 1.0

InStore: TypeAlias = Callable[[Callable[[Connection], Coroutine[Any, Any, int]]], Coroutine[Any, Any, int]]
"""Does a transaction on a connection, again if another one came between."""


class Settlement:
    """Settles results; what was delivered must not be delivered again for a store that is away, or for a neighbour."""

    def __init__(self, in_store: InStore) -> None:
        self._in_store = in_store

    async def settle(self, subscription: Subscription, results: Sequence[Delivered]) -> None:
        """Store them; while Postgres is away, wait until it is back.

        A task that is broken off meanwhile leaves them to the relay, and the handler may see the changes twice.
        """
        try:
            held = await self._commit(subscription, results)
        except Exception as error:  # noqa: BLE001 - about the rows, or a fault of ours: the others are stored all the same
            await self._settle_apart(subscription, results, error)
            return
        if held < len(results):
            log.warning("hand-overs were taken over meanwhile", handler=subscription.name, held=held)
        hand_over_metrics().settled(subscription.name, results)
        _tell_of_parked(subscription.name, results)

    async def _commit(self, subscription: Subscription, results: Sequence[Delivered]) -> int:
        """Raises whatever is not about Postgres itself."""
        while True:
            try:
                return await self._in_store(partial(handed_over.commit, subscription=subscription, results=results))
            except ABOUT_DATA:
                raise
            except (asyncpg.PostgresError, *AWAY) as error:
                reason = str(error) or type(error).__name__
                log.warning("waiting for Postgres to store what was handed over", reason=reason)
            await asyncio.sleep(STORE_AWAY_SECONDS)

    async def _settle_apart(self, subscription: Subscription, results: Sequence[Delivered], error: Exception) -> None:
        if len(results) > 1:
            for result in results:
                await self.settle(subscription, [result])
            return
        (result,) = results
        log.error("what came of a hand-over cannot be stored", handler=subscription.name, exc_info=error)
        # What it says may be at fault, which must not undo that it was delivered.
        plain = replace(result, status=None, detail=f"what came of it could not be stored: {type(error).__name__}")
        try:
            await self._commit(subscription, [plain])
        except Exception:
            # It stays claimed; the next task gives it back.
            log.exception("nor can it be stored without what it says", handler=subscription.name)


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
