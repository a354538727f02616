"""A process's sign of life for whoever started it: a file that is touched every second, for as long as work goes on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


BEAT_SECONDS = 1.0


async def beat(file: Path, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Touch the file every second until cancelled, but not while ``goes_on`` says no.

    It runs on the loop of the work itself: one that stands still touches nothing.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        if goes_on():
            with suppress(OSError):  # a full disk is no reason to end
                await asyncio.to_thread(file.touch)
        await asyncio.sleep(BEAT_SECONDS)
