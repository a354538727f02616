"""Calling an application's own functions: in the process's main thread, with a deadline that interrupts them."""

import asyncio
import inspect
import os
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
from workers.hand_over.verdicts import again, named, removed


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
    except (ValueError, ArithmeticError, RecursionError) as error:
        # Valid for Postgres, not for Python: an integer of 5,000 digits, an exponent of twenty.
        return Delivered(claimed, "parked", reason="wrong-shape", detail=named(error, claimed.change))
    # On every line that the function itself logs with structlog, too.
    bound = {"handler": handler.name, "account": change.account, "event_id": str(change.event_id or "") or None}
    raised = None
    try:
        with structlog.contextvars.bound_contextvars(**bound), _deadline(handler.timeout_seconds):
            raised = _call(handler, change, claimed.change)
    except TookTooLong:
        return again(
            claimed,
            "handler-too-slow",
            f"the handler was interrupted after {handler.timeout_seconds:g} s",
            policy,
            reached=False,
        )
    if raised is not None:
        return again(claimed, "handler-raised", raised, policy, reached=False)
    return Delivered(claimed, "done", reached=True)


def typed(change: OutgoingChange) -> Change[Record]:
    """The change with the model of its kind. Raises pydantic's ValidationError."""
    validated: Change[Record] = _model(change.kind).model_validate(_decoder.decode(change.as_json().decode()))
    return validated


@cache
def _model(kind: str) -> Any:
    generic: Any = Change
    return generic[KINDS.get(kind, Record)]


def _call(handler: Handler, change: Change[Record], outgoing: OutgoingChange) -> str | None:
    """What the function raised, if it did; told within its time, since what an exception says is its code as well."""
    worker = os.getpid()
    try:
        result = handler.function(change)
        if inspect.isawaitable(result):
            asyncio.run(_awaited(result))
    except TookTooLong:
        raise
    except BaseException as error:
        # What is bound names handler, account and event.
        log.warning("a handler raised", change=change.id, exc_info=error)
        return _told(error, outgoing)
    finally:
        if os.getpid() != worker:
            # A child that the function forked has come back, by whatever way; the hand-over is its parent's, and so
            # are the connections that it would go on with.
            os._exit(0)
    return None


def _told(error: BaseException, outgoing: OutgoingChange) -> str:
    try:
        return named(error, outgoing)
    except TookTooLong:
        raise
    except BaseException:  # noqa: BLE001 - it ends the process when it is asked what it says
        return type(error).__name__


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
