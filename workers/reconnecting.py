"""How a worker bears a Redis that is away: it tries every two seconds, however long, and says so once.

Celery waits two seconds longer after each try, up to half a minute, and has no setting for it. It says each try with a
traceback; after a failover that left Redis read-only each try succeeds and the next write fails, many times a second.
"""

import logging
import time
from typing import Any, Final

import kombu
from celery.app.amqp import AMQP


class _Connection(kombu.Connection):
    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect, trying again after 1, 2, 2, 2 ... seconds."""
        return super().ensure_connection(
            *args, **{"interval_start": 1, "interval_step": 1, "interval_max": 2, **kwargs}
        )


class QuickAmqp(AMQP):
    """Celery's own, with that connection."""

    Connection = _Connection


SAID_AGAIN_SECONDS: Final = 60.0
_REMEMBERED: Final = 100
LOGGERS: Final = ("celery.worker.consumer.consumer", "celery.worker.consumer.connection", "py.warnings")


class OnceAMinute(logging.Filter):
    """Lets a line through that says something new, or again after a minute, with the cause in place of a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be said; a cause is added to it as ``reason``."""
        error = record.exc_info[1] if record.exc_info else None
        reason = f"{type(error).__name__}: {error}" if error else ""
        if error and record.levelno < logging.CRITICAL:
            record.exc_info, record.reason = None, reason
        # What is said of (the address) is the first argument; later ones count tries and seconds.
        about = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        said = (str(record.msg), about, reason)
        now = time.monotonic()
        if now - self._said.get(said, float("-inf")) < SAID_AGAIN_SECONDS:
            return False
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[said] = now
        return True


def quieten() -> None:
    """Have Celery say the loss and the return of Redis once, not with each try."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, OnceAMinute) for each in logger.filters):
            logger.addFilter(OnceAMinute())
