"""How often somebody may try to sign in: so many failures, then a pause, by address and by name."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final


MOST_FAILURES: Final = 5
PAUSE_SECONDS: Final = 60.0
"""A failure is forgotten after this; a name or an address with ``MOST_FAILURES`` of them waits for that."""
_REMEMBERED: Final = 10_000


class Attempts:
    """Remembers failures in memory, the newest ten thousand addresses and names."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait_seconds(self, *keys: str) -> float:
        """How long these have to wait before they may try; 0 if they may now."""
        return max((self._wait(key) for key in keys), default=0.0)

    def failed(self, *keys: str) -> None:
        """Note a failure of each."""
        now = self._clock()
        for key in keys:
            recent = [at for at in self._failures.pop(key, []) if at > now - PAUSE_SECONDS]
            self._failures[key] = [*recent, now][-MOST_FAILURES:]
            if len(self._failures) > _REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget their failures."""
        for key in keys:
            self._failures.pop(key, None)

    def _wait(self, key: str) -> float:
        failures = self._failures.get(key, [])
        if len(failures) < MOST_FAILURES:
            return 0.0
        return max(0.0, failures[0] + PAUSE_SECONDS - self._clock())
