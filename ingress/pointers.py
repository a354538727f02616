"""Wakes the workers after a commit: ids in batches, from a thread of its own, for publishing blocks.

The first event of a quiet time is announced at once; after it at most one message every 30 ms, the provider that has
waited longest first, so that batches form by themselves under load: what a message costs the workers hardly grows with
what they find, and a busy machine must not be kept busy by messages. While a message lies on a provider's queue it gets
no other: whoever takes that one takes up everything that is due. What cannot be sent is dropped: the relay queues what
was never announced.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from shared.errors import StoreAway
from shared.queue import plan_task, queue_of


SPACING_SECONDS: Final = 0.03
MESSAGE_EVENTS: Final = 500
PENDING_EVENTS: Final = 20_000
"""How many ids wait for a slow Redis; beyond that they are left to the relay."""

LOG_SECONDS: Final = 1.0
STOP_SECONDS: Final = 3.0


class Publisher(Protocol):
    """What ``shared.publishing.Publisher`` offers."""

    def publish(self, task_name: str, queue: str, args: Sequence[Any]) -> None:
        """Send one message; may block. Raises StoreAway."""

    def waits(self, queue: str) -> bool:
        """Whether a message lies on the queue; may block. Raises StoreAway."""


class Pointers:
    """Announces kept events, provider by provider."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._pending: dict[str, list[UUID]] = {}
        self._not_before = 0.0
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
                if not self._publisher.waits(queue_of(provider)):
                    self._publisher.publish(plan_task(provider), queue_of(provider), [[str(each) for each in ids]])
            except StoreAway as error:
                self._give_up(provider, len(ids), str(error))
            except Exception as error:  # noqa: BLE001 - without this thread every event would wait for the relay
                self._give_up(provider, len(ids), repr(error))

    def _next(self) -> tuple[str, list[UUID]] | None:
        """Wait for the next message that is due; None when there is nothing left and the end has come."""
        with self._changed:
            while True:
                # The keys are in the order in which their oldest events came.
                provider = next(iter(self._pending), None)
                if provider is None and self._stopping:
                    return None
                now = time.monotonic()
                if provider is not None and (self._stopping or now >= self._not_before):
                    ids = self._pending.pop(provider)
                    if rest := ids[MESSAGE_EVENTS:]:
                        self._pending[provider] = rest
                    self._not_before = now + SPACING_SECONDS
                    return provider, ids[:MESSAGE_EVENTS]
                self._changed.wait(None if provider is None else self._not_before - now)

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
