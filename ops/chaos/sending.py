"""The senders of a scenario: an open loop at a steady rate, every refused delivery sent again, everything written down.

What is kept here is what the verdict is about: the digest of each body, each answer, each receipt.
"""

import asyncio
import base64
import gc
import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx
import msgspec
from httpx_aiohttp import HttpxAiohttpClient

from ops.chaos.traffic import Intent
from ops.lab.happening import LabError
from ops.lab.sender import TIMEOUT_SECONDS, content_with


AGAIN_SECONDS = 1.0
"""After an answer without Retry-After; providers take minutes to an hour, this clock runs faster."""
LONGEST_AGAIN_SECONDS = 5.0
NO_RECEIPT = "00000000-0000-0000-0000-000000000000"
"""Stands for the receipt that an acknowledgement lacks: no event has it, so the delivery counts as lost."""
_CONNECTIONS = 1000
_LAB_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST. ``status`` 0: no answer. ``at`` is monotonic."""

    at: float
    seconds: float
    status: int
    durability: str = ""
    retry_after: str = ""
    said: str = ""


@dataclass(slots=True)
class Sent:
    """One delivery: what it was, every attempt, and the receipts of those that were acknowledged (at most one)."""

    provider: str
    account: str
    event: str
    sha256: str
    size: int
    ends: str
    attempts: list[Attempt] = field(default_factory=list)
    receipt: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether the provider may forget it."""
        return bool(self.receipt)


class Happened(msgspec.Struct):
    """What the lab's control API answers: a signed delivery."""

    account: str
    path: str
    headers: dict[str, str]
    body_base64: str


class Sender:
    """Sends intents; ``ingress`` is asked for at every attempt, since an installation may come back elsewhere.

    ``seconds`` is how long an answer is waited for. Without ``keep_alive`` each attempt has its own connection: who
    reuses one may find it closed by the other end.
    """

    def __init__(
        self, lab: str, ingress: Callable[[], str], *, keep_alive: bool = True, seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.ledger: list[Sent] = []
        self.give_up_at = math.inf
        """When nothing is sent again any more; monotonic."""
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        self._lab = HttpxAiohttpClient(base_url=lab, timeout=_LAB_SECONDS, limits=limits, trust_env=False)
        self._ingress = ingress
        self._said = {} if keep_alive else {"connection": "close"}
        self._client = HttpxAiohttpClient(
            timeout=seconds,
            limits=limits,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        """Ready to send."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._lab.aclose()

    async def prepare(self, intents: Iterable[Intent]) -> list[tuple[Intent, Happened]]:
        """Let all of it happen before the first delivery, so that nothing but deliveries takes up the processor."""
        ready = [(intent, await self._happen(intent)) for intent in intents]
        # A collection of garbage that walked through all of it would hold deliveries up, and look like slow answers.
        gc.collect()
        gc.freeze()
        return ready

    async def send(self, intents: Iterable[Intent | tuple[Intent, Happened]], rate: float) -> None:
        """Begin ``rate`` deliveries a second, whatever becomes of the earlier ones."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number, intent in enumerate(intents):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                ready = (intent, None) if isinstance(intent, Intent) else intent
                tasks.create_task(self.deliver(*ready))

    async def deliver(self, intent: Intent, happened: Happened | None = None) -> None:
        """Let it happen (unless it has), and post it until it is acknowledged or given up."""
        happened = happened or await self._happen(intent)
        body = base64.b64decode(happened.body_base64)
        digest = hashlib.sha256(body).hexdigest()
        for _ in range(2 if intent.twice else 1):
            sent = Sent(intent.provider, happened.account, intent.event, digest, len(body), intent.ends)
            self.ledger.append(sent)
            while not await self._attempt(sent, happened, body):
                wait = _again_after(sent.attempts[-1])
                if time.monotonic() + wait > self.give_up_at:
                    break
                await asyncio.sleep(wait)

    async def _happen(self, intent: Intent) -> Happened:
        asked = {"provider": intent.provider, "event": intent.event, "account": intent.account}
        answer = await self._lab.post("/happen", json={**asked, "options": dict(intent.options)})
        if answer.is_error:
            raise LabError(f"the lab refuses {intent.provider} {intent.event}: {answer.text}")
        return msgspec.json.decode(answer.content, type=Happened)

    async def _attempt(self, sent: Sent, happened: Happened, body: bytes) -> bool:
        at = time.monotonic()
        try:
            answer = await self._client.post(
                self._ingress() + happened.path, headers=happened.headers | self._said, content=body
            )
        except httpx.HTTPError as error:
            sent.attempts.append(Attempt(at, time.monotonic() - at, 0, said=type(error).__name__))
            return False
        given = answer.headers
        durability, retry_after = given.get("X-Penstock-Durability", ""), given.get("Retry-After", "")
        said = "" if answer.is_success else answer.text[:200]
        took = time.monotonic() - at
        sent.attempts.append(Attempt(at, took, answer.status_code, durability, retry_after, said))
        if content_with(sent.provider, answer.status_code):
            sent.receipt = given.get("X-Penstock-Event", NO_RECEIPT)
        return sent.acknowledged


def _again_after(attempt: Attempt) -> float:
    if attempt.retry_after.isdecimal():
        return min(max(float(attempt.retry_after), AGAIN_SECONDS / 4), LONGEST_AGAIN_SECONDS)
    return AGAIN_SECONDS
