"""Provider APIs that misbehave."""

import asyncio

from ops.chaos.scenario import Book, Stage
from ops.lab.faults import Fault


BOOK = Book()
_HELD_SECONDS = 8.0
_NEVER_SECONDS = 300.0
"""Longer than anybody waits."""


@BOOK.add(
    "provider-storm-429",
    protects="Retry-After is honoured, an attempt that was refused for its rate costs none of the allowed ones",
)
async def storm_429(stage: Stage) -> None:
    """Seven of ten calls to every provider are answered 429 with Retry-After for eight seconds."""
    await _storm(stage, Fault(kind="status", status=429, retry_after="1", probability=0.7))


@BOOK.add(
    "provider-storm-500",
    protects="full-jitter backoff: the failed fetch alone is tried again, its finished neighbours are not",
)
async def storm_500(stage: Stage) -> None:
    """Seven of ten calls to every provider are answered 500 or 503 for eight seconds."""
    await _storm(
        stage,
        Fault(kind="status", status=500, probability=0.5),
        Fault(kind="status", status=503, probability=0.4),
    )


@BOOK.add(
    "provider-dropping",
    protects="a cut, truncated or garbled answer is no answer: nothing of it is stored, the call is made again",
)
async def dropping(stage: Stage) -> None:
    """Six of ten calls end in a cut connection, half a body, or a page that is not JSON, for eight seconds."""
    await _storm(
        stage,
        Fault(kind="drop", probability=0.3),
        Fault(kind="truncate", probability=0.25),
        Fault(kind="not-json", probability=0.25),
    )


@BOOK.add(
    "provider-slow",
    protects="calls have deadlines and run side by side; ingress never waits for a provider",
    within_seconds=45.0,
)
async def slow(stage: Stage) -> None:
    """Half of all calls take three seconds, to the end; one in twenty gets no answer at all, for eight seconds."""
    half_slow = Fault(kind="slow", seconds=3.0, probability=0.5)
    await asyncio.to_thread(
        stage.at.lab.set_faults, Fault(kind="slow", seconds=_NEVER_SECONDS, probability=0.05), half_slow
    )
    stage.say("slow, and no answer at all")
    await asyncio.sleep(_HELD_SECONDS)
    # What is slow stays so: finished in time is only who calls side by side.
    await asyncio.to_thread(stage.at.lab.set_faults, half_slow)
    stage.say("every call gets an answer again")


async def _storm(stage: Stage, *faults: Fault) -> None:
    stage.say(", ".join(fault.kind for fault in faults))
    await asyncio.to_thread(stage.at.lab.set_faults, *faults)
    try:
        await asyncio.sleep(_HELD_SECONDS)
    finally:
        await asyncio.to_thread(stage.at.lab.set_faults)
    stage.say("the providers behave again")
