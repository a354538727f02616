"""Both stores away at once: the one time at which a provider is refused."""

import asyncio

from ops.chaos.processes import frozen
from ops.chaos.scenario import UNAVAILABLE, Book, Stage


BOOK = Book()


@BOOK.add(
    "both-away",
    needs=frozenset({"postgres", "redis"}),
    protects="nothing is acknowledged that no store holds: 503 with Retry-After inside 4 s, and it is sent again",
    may_refuse=UNAVAILABLE,
)
async def both_away(stage: Stage) -> None:
    """Postgres and Redis are both stopped (SIGSTOP) for eight seconds and go on."""
    stage.say("freezes both")
    with frozen(each.pid for name in ("postgres", "redis") for each in stage.at.alive(name)):
        await asyncio.sleep(8.0)
    stage.say("wakes both")
