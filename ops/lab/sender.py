"""The four providers' senders: they post deliveries, post them again as each provider does, and keep a ledger."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec
from httpx_aiohttp import HttpxAiohttpClient

from ops.lab.accounts import Account
from ops.lab.deliveries import Delivery, body_of, signed
from ops.lab.happening import Happening


TIMEOUT_SECONDS = 5.0  # Magicline's; the others state none (providers.md, matrix)
_LEDGER_KEPT = 200_000
_CONNECTIONS = 100


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Again after so many seconds of the lab's clock, at most so often, until the provider is content."""

    after_seconds: float
    repeats: int
    exactly_200: bool = False


# Magicline: "resend after 10 minutes ... 3 repeats" (seeds/001); Authenteq: hourly for a week until exactly 200
# (seeds/004). imin and Paybook state nothing.
REDELIVERY = {
    "magicline": Redelivery(600.0, 3),
    "authenteq": Redelivery(3600.0, 24 * 7, exactly_200=True),
}
_NEVER = Redelivery(0.0, 0)


class Attempt(msgspec.Struct):
    """One POST. ``status`` 0: no answer, ``error`` says why. ``receipt`` is X-Penstock-Event."""

    at: float
    status: int
    ms: float
    sha256: str
    receipt: str = ""
    durability: str = ""
    error: str = ""


class Sent(msgspec.Struct):
    """One delivery in the ledger with all its attempts; ``identity`` is the provider's own (uuid, result.id ...)."""

    number: int
    provider: str
    account: str
    event: str
    identity: str
    duplicate: bool = False
    acknowledged: bool = False
    given_up: bool = False
    withheld: bool = False
    attempts: list[Attempt] = msgspec.field(default_factory=list)


class Sender:
    """Posts to one ingress. ``clock_speed`` 60 makes an hour between redeliveries a minute."""

    def __init__(
        self, ingress: str, clock_speed: float = 1.0, failed: Callable[[str, str], None] | None = None
    ) -> None:
        self.ingress = ingress.rstrip("/")
        self.clock_speed = clock_speed
        self._failed = failed
        self._client = HttpxAiohttpClient(
            timeout=TIMEOUT_SECONDS,
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        )
        self._ledger: deque[Sent] = deque(maxlen=_LEDGER_KEPT)
        self._again: set[asyncio.Task[None]] = set()
        self._numbers = 0

    async def __aenter__(self) -> Self:
        """Ready to send."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Give up what is still to be redelivered and close the connections."""
        for task in self._again:
            task.cancel()
        await asyncio.gather(*self._again, return_exceptions=True)
        await self._client.aclose()

    async def send(self, account: Account, happening: Happening, *, duplicate: bool = False) -> Sent:
        """Post once; if the provider is not content with the answer, redelivery goes on by itself."""
        self._numbers += 1
        sent = Sent(self._numbers, account.provider, account.name, happening.event, happening.identity, duplicate)
        self._ledger.append(sent)
        await self._attempt(sent, account, happening)
        policy = REDELIVERY.get(account.provider, _NEVER)
        if not sent.acknowledged and policy.repeats:
            task = asyncio.create_task(self._redeliver(sent, account, happening, policy))
            self._again.add(task)
            task.add_done_callback(self._again.discard)
        elif not sent.acknowledged:
            sent.given_up = True
        return sent

    def withhold(self, account: Account, happening: Happening) -> Sent:
        """Something happened and is not told of: what a lost delivery leaves behind."""
        self._numbers += 1
        sent = Sent(self._numbers, account.provider, account.name, happening.event, happening.identity, withheld=True)
        self._ledger.append(sent)
        return sent

    def ledger(self, provider: str = "", after: int = 0, limit: int = 10_000) -> dict[str, Any]:
        """What ``GET /ledger`` answers: totals, and the deliveries after a number, oldest first."""
        chosen = [sent for sent in self._ledger if sent.number > after and provider in {"", sent.provider}]
        return {
            "sent": len(chosen),
            "acknowledged": sum(sent.acknowledged for sent in chosen),
            "given_up": sum(sent.given_up for sent in chosen),
            "deliveries": [msgspec.to_builtins(sent) for sent in chosen[:limit]],
        }

    async def settled(self) -> None:
        """Wait until nothing is to be redelivered any more."""
        while self._again:
            await asyncio.wait(self._again)

    def clear(self) -> None:
        """Forget the ledger and what is still to be redelivered."""
        for task in self._again:
            task.cancel()
        self._ledger.clear()

    async def _redeliver(self, sent: Sent, account: Account, happening: Happening, policy: Redelivery) -> None:
        for _ in range(policy.repeats):
            await asyncio.sleep(policy.after_seconds / self.clock_speed)
            await self._attempt(sent, account, happening)
            if sent.acknowledged:
                return
        sent.given_up = True

    async def _attempt(self, sent: Sent, account: Account, happening: Happening) -> None:
        delivery = signed(account, *body_of(happening, len(sent.attempts) + 1))
        attempt = await post(self._client, self.ingress, delivery)
        sent.attempts.append(attempt)
        sent.acknowledged = content_with(account.provider, attempt.status)
        if not sent.acknowledged and self._failed:
            self._failed(account.provider, account.name)


async def post(client: httpx.AsyncClient, ingress: str, delivery: Delivery) -> Attempt:
    """Post one delivery; whatever comes of it is in the attempt."""
    at, began = time.time(), time.perf_counter()
    attempt = Attempt(at, 0, 0.0, delivery.sha256)
    try:
        answer = await client.post(ingress + delivery.path, headers=dict(delivery.headers), content=delivery.body)
    except httpx.HTTPError as error:
        attempt.error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    else:
        attempt.status = answer.status_code
        attempt.receipt = answer.headers.get("X-Penstock-Event", "")
        attempt.durability = answer.headers.get("X-Penstock-Durability", "")
    attempt.ms = round((time.perf_counter() - began) * 1000, 3)
    return attempt


def content_with(provider: str, status: int) -> bool:
    """Whether the provider takes this status for success: any 2xx, Authenteq exactly 200."""
    if REDELIVERY.get(provider, _NEVER).exactly_200:
        return status == httpx.codes.OK
    return httpx.codes.is_success(status)
