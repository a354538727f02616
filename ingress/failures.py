"""Counts failed authentications by sender: whoever fails too often is told to wait, in a fixed amount of memory."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final


ALLOWED: Final = 100
"""So many failures at once; enough for a provider whose key has just been changed to show up as 401 in its own log."""

PER_SECOND: Final = 1.0
"""So many more a second."""

SENDERS: Final = 10_000
"""So many senders are remembered, the latest ones; about 2 MB."""


class FailedAttempts:
    """A token bucket for each sender. Only failures are counted, so an authentic delivery never meets it."""

    def __init__(
        self,
        *,
        allowed: int = ALLOWED,
        per_second: float = PER_SECOND,
        senders: int = SENDERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed = allowed
        self._per_second = per_second
        self._senders = senders
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """sender -> how many failures were left, and when; the longest silent sender first."""

    def count(self, sender: str) -> int:
        """Count one failure; how many whole seconds this sender is to wait, 0 while it is within its bounds."""
        now = self._clock()
        left, at = self._left.pop(sender, (float(self._allowed), now))
        left = min(left + (now - at) * self._per_second, self._allowed)
        within = left >= 1
        self._left[sender] = (left - 1 if within else left, now)
        if len(self._left) > self._senders:
            self._left.popitem(last=False)
        return 0 if within else max(1, math.ceil((1 - left) / self._per_second))
