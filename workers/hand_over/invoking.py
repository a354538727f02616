"""Calling an application's own functions: in the process's main thread, with a deadline that interrupts them."""

import asyncio
import inspect
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from json import JSONDecoder
from types import FrameType
from typing import Any

import structlog
from pydantic import ValidationError

from penstock.changes import Change
from penstock.handlers import Handler
from penstock.records import KINDS, Record
from shared.configuration import Retry
from shared.handlers.change import OutgoingChange
from shared.store.handovers.handing_over import ClaimedHandover, Delivered
from workers.hand_over.discretion import discreet
from workers.hand_over.verdicts import SAID_CHARACTERS, again, removed


log = structlog.get_logger("penstock.handlers")

AGAIN_SECONDS = 1.0
"""How often a function is interrupted again that took no notice the first time."""

# Amounts keep every digit on their way into the models.
_decoder = JSONDecoder(parse_float=Decimal)


class TookTooLong(BaseException):
    """The function's time is up. No Exception, so that a handler's own ``except Exception`` does not swallow it."""


def invoke(handler: Handler, claimed: ClaimedHandover, policy: Retry) -> Delivered:
    """Hand one change to the function and say what came of it. To be called in the main thread."""
    if claimed.change is None:
        return removed(claimed)
    try:
        change = typed(claimed.change)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Delivered(claimed, "parked", reason="wrong-shape", detail=f"{where}: {first['msg']}")
    # On every line that the function itself logs with structlog, too.
    bound = {"handler": handler.name, "account": change.account, "event_id": str(change.event_id or "") or None}
    try:
        with structlog.contextvars.bound_contextvars(**bound), _deadline(handler.timeout_seconds):
            _call(handler, change)
    except TookTooLong:
        return again(
            claimed,
            "handler-too-slow",
            f"the handler was interrupted after {handler.timeout_seconds:g} s",
            policy,
            reached=False,
        )
    except BaseException as error:  # also SystemExit: whatever a handler does, the others go on
        log.warning("a handler raised", **bound, change=change.id, exc_info=error)
        said = " ".join(discreet(str(error), claimed.change).split())[:SAID_CHARACTERS]
        detail = f"{type(error).__name__}: {said}" if said else type(error).__name__
        return again(claimed, "handler-raised", detail, policy, reached=False)
    return Delivered(claimed, "done", reached=True)


def typed(change: OutgoingChange) -> Change[Record]:
    """The change with the model of its kind. Raises pydantic's ValidationError."""
    validated: Change[Record] = _model(change.kind).model_validate(_decoder.decode(change.as_json().decode()))
    return validated


@cache
def _model(kind: str) -> Any:
    generic: Any = Change
    return generic[KINDS.get(kind, Record)]


def _call(handler: Handler, change: Change[Record]) -> None:
    result = handler.function(change)
    if inspect.isawaitable(result):
        asyncio.run(_awaited(result))


async def _awaited(result: Any) -> None:
    await result


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the main thread when the time is up, and again until it is heard."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
