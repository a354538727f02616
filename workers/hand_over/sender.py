"""One hand-over by HTTP: opened, signed, sent and judged. Whatever goes wrong is its verdict, and nobody else's."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog

from shared.configuration import Retry
from shared.handlers.envelope import CONTENT_TYPE, wrap
from shared.handlers.settings import Handler
from shared.handlers.signing import sign
from shared.store.handovers.handing_over import ClaimedHandover, Delivered
from shared.tracing import Tracing, with_traceparent
from workers.calling import NoAnswer
from workers.hand_over.opener import Opens
from workers.hand_over.posting import Response
from workers.hand_over.traces import handing_over_traced
from workers.hand_over.verdicts import judge_answer, judge_fault, judge_silence, removed


log = structlog.get_logger("penstock.handlers")


class Posts(Protocol):
    """Whatever sends messages."""

    async def post(self, handler: Handler, headers: Mapping[str, str], body: bytes) -> Response:
        """The answer, whatever its status. Raises NoAnswer."""

    async def close(self) -> None:
        """Close the connections."""


class Sender:
    """Sends the changes of one worker process."""

    def __init__(self, opener: Opens, poster: Posts, tracing: Tracing | None) -> None:
        self._opener = opener
        self._poster = poster
        self._tracing = tracing

    async def send(self, handler: Handler, claimed: ClaimedHandover, policy: Retry) -> Delivered:
        """What came of it; raises no Exception."""
        try:
            return await self._send(handler, claimed, policy)
        except Exception as error:  # noqa: BLE001 - of whatever kind: its neighbours are under way
            tell_of_fault(handler.name, claimed, error)
            return judge_fault(claimed, error, policy)

    async def _send(self, handler: Handler, claimed: ClaimedHandover, policy: Retry) -> Delivered:
        claimed = await self._opener.open(claimed)
        change = claimed.change
        if change is None:
            return removed(claimed)
        body = wrap(change)
        headers = sign(change.id, datetime.now(UTC), body, (handler.secret, *handler.older_secrets))
        try:
            with handing_over_traced(self._tracing, handler.name, change):
                sent = with_traceparent({**headers, "content-type": CONTENT_TYPE})
                answer = await self._poster.post(handler, sent, body)
        except NoAnswer as error:
            return judge_silence(claimed, error, policy)
        return judge_answer(claimed, answer, policy)


def tell_of_fault(handler: str, claimed: ClaimedHandover, error: Exception) -> None:
    """Log where it happened: the hand-over keeps a sentence only."""
    log.error(
        "a fault while a change was handed over",
        handler=handler,
        account=claimed.change.account if claimed.change else None,
        change=claimed.change.id if claimed.change else None,
        exc_info=error,
    )
