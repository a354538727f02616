"""What an account's budgets decided, by Redis's own order and clock: which calls were let through, and when none.

A test on a busy machine compares these. How long a call that was let through is on its way says nothing of a budget.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import redis

from support.conditions import HANG_SECONDS


_END: Final = "penstock-test:end"


@dataclass
class BudgetLog:
    """Unix times, each list in the order in which things happened."""

    taken: list[float] = field(default_factory=list)
    """Of each call that was let through."""
    paused: list[float] = field(default_factory=list)
    """Of each pause that was set, after an answer of 429."""

    def taken_before(self, at: float) -> int:
        """How many calls had been let through by then."""
        return sum(taken <= at for taken in self.taken)

    def taken_between(self, first: float, last: float) -> list[float]:
        """The calls that were let through meanwhile."""
        return [taken for taken in self.taken if first < taken < last]

    def latest(self, arrived: Sequence[float]) -> float:
        """The longest that a call was on its way, of calls that arrived in this order."""
        return max((at - taken for taken, at in zip(self.taken, sorted(arrived), strict=False)), default=0.0)


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most of these that fall within any so many seconds."""
    return max((sum(at <= other < at + seconds for other in times) for at in times), default=0)


@contextmanager
def budget_log(redis_url: str, provider: str, account: str, scope: str = "") -> Iterator[BudgetLog]:
    """What happens during the block; complete after it. ``scope``: only of budgets with this in their scope."""
    log = BudgetLog()
    taken = re.compile(rf"ZADD penstock:budget:{provider}:{account}:.*{scope}")
    paused = re.compile(rf"SET penstock:pause:{provider}:{account}:.*{scope}")
    with redis.Redis.from_url(redis_url, socket_timeout=None) as client, client.monitor() as monitor:

        def read() -> None:
            while _END not in (said := monitor.next_command())["command"]:
                if taken.match(said["command"]):
                    log.taken.append(said["time"])
                elif paused.match(said["command"]):
                    log.paused.append(said["time"])

        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        try:
            yield log
        finally:
            with redis.Redis.from_url(redis_url) as other:
                other.delete(_END)
            reading.join(HANG_SECONDS)
