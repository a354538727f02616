"""Wakes the workers after a commit: ids in batches, from a thread of its own, for publishing blocks.

The first event of a quiet time is announced at once; after it at most one message a provider every 20 ms, so that
batches form by themselves under load. What cannot be sent is dropped: the relay queues what was never announced.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from shared.errors import StoreAway
from shared.queue import plan_task, queue_of


SPACING_SECONDS: Final = 0.02
MESSAGE_EVENTS: Final = 500
PENDING_EVENTS: Final = 20_000
"""How many ids wait for a slow Redis; beyond that they are left to the relay."""

LOG_SECONDS: Final = 1.0
STOP_SECONDS: Final = 3.0


class Publisher(Protocol):
    """What ``shared.publishing.Publisher`` offers."""

    def publish(self, task_name: str, queue: str, args: Sequence[Any]) -> None:
        """Send one message; may block. Raises StoreAway."""


class Pointers:
    """Announces kept events, provider by provider."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._pending: dict[str, list[UUID]] = {}
        self._not_before: dict[str, float] = {}
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="pointers", daemon=True)
        self._log = structlog.get_logger("penstock.ingress")
        self._logged_at = 0.0
        self._dropped = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Send what is pending and end; a Redis that does not answer is not waited for longer than a few seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)

    def announce(self, events: Iterable[tuple[str, UUID]]) -> None:
        """Take (provider, event id) pairs; never blocks for Redis."""
        with self._changed:
            news = False
            for provider, event_id in events:
                pending = self._pending.setdefault(provider, [])
                news = news or not pending
                if len(pending) < PENDING_EVENTS:
                    pending.append(event_id)
            # Whoever was pending before has its time set already; to wake the thread would only cost the loop a turn.
            if news:
                self._changed.notify()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            provider, ids = batch
            try:
                self._publisher.publish(plan_task(provider), queue_of(provider), [[str(each) for each in ids]])
            except StoreAway as error:
                self._give_up(provider, len(ids), str(error))
            except Exception as error:  # noqa: BLE001 - without this thread every event would wait for the relay
                self._give_up(provider, len(ids), repr(error))

    def _next(self) -> tuple[str, list[UUID]] | None:
        """Wait for the next message that is due; None when there is nothing left and the end has come."""
        with self._changed:
            while True:
                now = time.monotonic()
                waits = {
                    provider: 0.0 if self._stopping else self._not_before.get(provider, 0.0) - now
                    for provider, ids in self._pending.items()
                    if ids
                }
                if not waits and self._stopping:
                    return None
                provider = min(waits, key=lambda name: waits[name], default=None)
                if provider is not None and waits[provider] <= 0:
                    ids = self._pending[provider]
                    self._pending[provider] = ids[MESSAGE_EVENTS:]
                    self._not_before[provider] = now + SPACING_SECONDS
                    return provider, ids[:MESSAGE_EVENTS]
                self._changed.wait(None if provider is None else waits[provider])

    def _give_up(self, provider: str, count: int, reason: str) -> None:
        with self._changed:
            # What came in meanwhile would only wait for the same timeout again, message by message.
            self._dropped += count + len(self._pending.pop(provider, ()))
            now = time.monotonic()
            if now - self._logged_at < LOG_SECONDS:
                return
            self._logged_at = now
            dropped, self._dropped = self._dropped, 0
        self._log.warning("events are kept but could not be announced; the relay will", events=dropped, reason=reason)
