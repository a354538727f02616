"""Tracebacks fit for a log: where it happened, in full; what an exception says, only where it cannot quote a body.

A ``KeyError`` may name a member of a customer's record, pydantic shows the input, Postgres repeats the row that failed.
"""

import asyncio
import sys
import traceback
from collections.abc import Iterator
from typing import Final, TextIO

from structlog.typing import EventDict, ExcInfo, WrappedLogger

from shared.errors import PenstockError


_OURS: Final = (PenstockError, OSError, asyncio.CancelledError, ImportError, NameError, AttributeError)
"""Whose words are our own sentences, or about files, sockets and code."""

_LEFT_OUT: Final = "(what it says is left out: it may quote a body)"
_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def told(error: BaseException) -> str:
    """The traceback of an exception and of those that led to it, oldest first."""
    return "".join(_parts(error, set())).rstrip("\n")


def as_field(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: ``exc_info`` becomes the field ``exception``."""
    match event.pop("exc_info", None):
        case BaseException() as error:
            event["exception"] = told(error)
        case (_, BaseException() as error, _):
            event["exception"] = told(error)
        case True if raised := sys.exception():
            event["exception"] = told(raised)
    return event


def on_screen(screen: TextIO, raised: ExcInfo) -> None:
    """What ``structlog.dev.ConsoleRenderer`` shows an exception with."""
    screen.write("\n" + told(raised[1]))


def _said(error: BaseException) -> str:
    """What it says, asked only where it is shown: an application's exception may be code that fails."""
    if not isinstance(error, _OURS):
        return _LEFT_OUT if error.args else ""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a class of the application's that is derived from one of ours
        return ""


def _parts(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before, why = (error.__cause__, _CAUSE) if error.__cause__ else (error.__context__, _CONTEXT)
    if before is not None and id(before) not in seen and (error.__cause__ or not error.__suppress_context__):
        yield from _parts(before, seen)
        yield why
    if error.__traceback__:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(error.__traceback__)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    yield f"{name}: {said}\n" if (said := _said(error)) else f"{name}\n"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            if id(each) not in seen:
                yield from _parts(each, seen)
