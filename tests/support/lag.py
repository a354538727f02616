"""How far behind this process's event loop is: what a test allows on top of a deadline that the code keeps in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final


_TICK_SECONDS: Final = 0.01


@dataclass
class Lag:
    """The seconds by which short sleeps took longer than asked, all together."""

    seconds: float = 0.0


@asynccontextmanager
async def measured_lag() -> AsyncIterator[Lag]:
    """The lag during the block, so far."""
    lag, loop = Lag(), asyncio.get_running_loop()

    async def tick() -> None:
        while True:
            began = loop.time()
            await asyncio.sleep(_TICK_SECONDS)
            lag.seconds += loop.time() - began - _TICK_SECONDS

    ticking = asyncio.create_task(tick())
    try:
        yield lag
    finally:
        ticking.cancel()
