"""Hands refused deliveries to the quarantine: in the background, a few a second, and none when there is too much.

Nothing here is waited for by anybody. A flood fills a queue of fixed size; what does not fit is forgotten.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from shared.errors import Cause, StoreAway
from shared.quarantine import Refused, seal_head
from shared.store.postgres import AWAY, connect_once
from shared.store.quarantine import NewRefused, Room, keep


if TYPE_CHECKING:
    from shared.providers.interface import Unverified
    from shared.sealing import Keys


WAITING: Final = 200
WAITING_BYTES: Final = 4 * 1024 * 1024
BATCH: Final = 50
SPACING_SECONDS: Final = 1.0
SHUT_SECONDS: Final = 10.0
"""So long nothing is offered to Postgres after it was found full, or did not answer."""


class Explaining(Protocol):
    """What ``ingress.routes.Routes`` offers."""

    def cause(self, provider: str, request: "Unverified", body: bytes) -> Cause | None:
        """Why this delivery is not authentic; None: it is, or nothing is known of its provider any more."""


class Quarantine:
    """The queue of refused deliveries of this process, and who writes them down."""

    def __init__(self, database_url: str, keys: "Keys", explaining: Explaining) -> None:
        self._database_url = database_url
        self._keys = keys
        self._explaining = explaining
        self._waiting: deque[Refused] = deque()
        self._bytes = 0
        self._shut_until = 0.0
        self._full_sources: frozenset[str] = frozenset()
        self._arrived = asyncio.Event()
        self._log = structlog.get_logger("penstock.ingress")

    def has_room(self, source: str) -> bool:
        """Whether it is worth while to read on for the body of what this sender sent."""
        return (
            len(self._waiting) < WAITING
            and self._bytes < WAITING_BYTES
            and source not in self._full_sources
            and asyncio.get_running_loop().time() >= self._shut_until
        )

    def offer(self, refused: Refused) -> None:
        """Take it if there is room; never blocks."""
        if self.has_room(refused.source):
            self._waiting.append(refused)
            self._bytes += refused.size
            self._arrived.set()

    async def run(self) -> None:
        """Write down what was offered until cancelled."""
        while True:
            await self._arrived.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._bytes -= sum(refused.size for refused in batch)
            if not self._waiting:
                self._arrived.clear()
            try:
                self._heed(await self._keep(batch))
            except (StoreAway, *AWAY) as error:
                self._shut(f"Postgres does not answer: {error}")
            except Exception as error:  # noqa: BLE001 - a fault here must not end the quarantine, nor touch a request
                self._shut(f"a fault: {error!r}")
            await asyncio.sleep(SPACING_SECONDS)

    async def _keep(self, batch: Sequence[Refused]) -> Room:
        # Named and sealed in a thread: a body may have to be hashed several times over.
        sealed = await asyncio.to_thread(lambda: [self._seal(refused) for refused in batch])
        connection = await connect_once(self._database_url)
        try:
            return await keep(connection, sealed)
        finally:
            connection.terminate()

    def _seal(self, refused: Refused) -> NewRefused:
        cause = self._explaining.cause(refused.provider, refused.request, refused.body) or refused.cause
        return NewRefused(
            id=refused.id,
            provider=refused.provider,
            received_at=refused.received_at,
            source=refused.source,
            cause=cause,
            head=seal_head(self._keys, refused),
            body=self._keys.seal(refused.body, refused.id),
            body_bytes=len(refused.body),
            body_sha256=hashlib.sha256(refused.body).digest(),
            content_type=refused.content_type,
        )

    def _heed(self, room: Room) -> None:
        self._full_sources = room.full_sources
        if room.full:
            self._shut("it is full")
        elif room.full_sources:
            # They are asked about again: what they had kept may have been released or have lapsed.
            asyncio.get_running_loop().call_later(SHUT_SECONDS, self._forget_full_sources)

    def _forget_full_sources(self) -> None:
        self._full_sources = frozenset()

    def _shut(self, reason: str) -> None:
        self._shut_until = asyncio.get_running_loop().time() + SHUT_SECONDS
        self._waiting.clear()
        self._bytes = 0
        self._arrived.clear()
        self._log.warning("refused deliveries are not kept for a while", reason=reason)
