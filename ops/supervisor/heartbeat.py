"""Listens to a process from outside: it touches a file every second, and one that stands still does not."""

import time
from pathlib import Path


SILENT_SECONDS = 20.0
START_SECONDS = 120.0
"""How long the first sign may take: a process reads its code and its settings before. Twice as long after each start
that was cut short, since on a machine that slow the next one would be no better off."""
LONGEST_START_SECONDS = 1800.0
_STALL_SECONDS = 2.0
"""Looks this far apart say that the listener itself stood still, and perhaps the whole machine."""


class Heartbeat:
    """The signs of life of one process, in ``file``. Clocks of two processes are never compared."""

    def __init__(self, file: Path, *, silent: float = SILENT_SECONDS, start: float = START_SECONDS) -> None:
        self.file = file
        self._silent = silent
        self._start = start
        self._began = False
        self._sign: int | None = None
        self._heard = self._looked = time.monotonic()

    def begin(self) -> None:
        """The process is being started; signs of the one before are forgotten."""
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.file.unlink(missing_ok=True)
        if self._began and self._sign is None:
            self._start = min(LONGEST_START_SECONDS, 2 * self._start)
        self._began = True
        self._sign = None
        self._heard = self._looked = time.monotonic()

    def silent(self) -> float:
        """For how many seconds there was no sign; 0.0 while that is not too long. To be asked all the time."""
        now = time.monotonic()
        try:
            sign = self.file.stat().st_mtime_ns
        except FileNotFoundError:
            sign = None
        if sign != self._sign or now - self._looked > _STALL_SECONDS:
            self._sign, self._heard = sign, now
        self._looked = now
        silent = now - self._heard
        return silent if silent > (self._start if sign is None else self._silent) else 0.0
