"""Log lines about what strangers do: a few each second, and then how many were left out."""

import time
from collections.abc import Callable
from typing import Any, Final

import structlog


LINES: Final = 20
"""So many lines at once, and afterwards so many a second: a flood must not fill the disk of the log."""


class BoundedLog:
    """Writes lines of level info within a bound; what was left out is told with the next line that is written."""

    def __init__(self, *, lines: int = LINES, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        self._left = float(lines)
        self._at = clock()
        self._left_out = 0
        self._log = structlog.get_logger("penstock.ingress")

    def info(self, event: str, **values: Any) -> None:
        """Write a line, or only count it."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._lines, self._lines)
        self._at = now
        if self._left < 1:
            self._left_out += 1
            return
        self._left -= 1
        if self._left_out:
            values["left_out"], self._left_out = self._left_out, 0
        self._log.info(event, **values)
