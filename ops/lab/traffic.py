"""A steady mix of all four providers' events, with a duplicate and an unknown type now and then."""

import asyncio
import random
from typing import TYPE_CHECKING

from ops.lab.magicline_events import EVENTS, UNDOCUMENTED
from ops.lab.sender import Sender
from ops.lab.world import World


if TYPE_CHECKING:
    from collections.abc import Sequence


_SHARES = {"magicline": 60, "imin": 20, "paybook": 10, "authenteq": 10}
_DUPLICATES = 0.05
_UNKNOWN = 0.01
_RARE = ("CUSTOMER_DELETED", "CUSTOMER_ACCESS_DISABLED")  # they use customers up
_MOST_IN_FLIGHT = 64


class Traffic:
    """Sends about ``rate`` deliveries a second until it is cancelled; the order of events follows from the seed."""

    def __init__(self, world: World, sender: Sender, rate: float, seed: int) -> None:
        self._world = world
        self._sender = sender
        self._rate = rate
        self._random = random.Random(seed)
        self._common = [event for event in EVENTS if event not in _RARE]
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send on; a slow ingress slows the traffic down rather than piling deliveries up here."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                if len(self._in_flight) >= _MOST_IN_FLIGHT:
                    await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._one(*self.next_event()))
                self._in_flight.add(task)
                task.add_done_callback(self._in_flight.discard)
                due = max(due + self._random.expovariate(self._rate), loop.time() - 1.0)
                await asyncio.sleep(max(0.0, due - loop.time()))
        finally:
            for task in self._in_flight:
                task.cancel()

    def next_event(self) -> tuple[str, str, str, bool]:
        """Provider, account, event, and whether it is delivered twice."""
        provider = self._random.choices(list(_SHARES), list(_SHARES.values()))[0]
        names = [account.name for account in self._world.accounts if account.provider == provider]
        return provider, self._random.choice(names), self._event(provider), self._random.random() < _DUPLICATES

    def _event(self, provider: str) -> str:
        known: Sequence[str] = self._world.part(provider).events()
        if provider == "magicline":
            draw = self._random.random()
            known = UNDOCUMENTED if draw < _UNKNOWN else _RARE if draw < 2 * _UNKNOWN else self._common
        return self._random.choice(known)

    async def _one(self, provider: str, account: str, event: str, twice: bool) -> None:  # noqa: FBT001 - see next_event
        happening = self._world.happen(provider, event, account, {})
        keys = self._world.account(provider, account)
        await self._sender.send(keys, happening)
        if twice:
            await self._sender.send(keys, happening, duplicate=True)
