"""The canary: a message that a worker sends to itself, the same way as its work comes, to see whether it works.

It lies on a queue of the worker's own. The transport waits for all queues of a worker with one command on one
connection, so what takes the canary would take an event; the task runs in one of the children, as planning does. Why
the providers' queues carry none: docs/decisions/0010-canary.md.
"""

import mmap
import time
from typing import Any, Final
from uuid import uuid4

from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.broker import broker_of
from shared.errors import StoreAway
from shared.queue import CANARY_TASK, canary_queue


KEEP_SECONDS: Final = 60
"""A dead worker's last canary is gone after this time; nobody would ever take it."""
_OPTIONS: Final = {
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}


class Canary:
    """One worker's canary. To be made before the worker's children are, and before its application has run."""

    def __init__(self, app: Celery, redis_url: str) -> None:
        # Declaring a queue writes it into a set in Redis for ever; messages by a queue's own name need no declaration.
        self.queue = Queue(canary_queue(uuid4().hex), no_declare=True)
        self._app = app
        self._broker = broker_of(redis_url)
        # Memory shared with the children: a monotonic clock's reading, the same in all processes of a machine.
        self._shared = memoryview(mmap.mmap(-1, 8)).cast("d")
        self._shared[0] = time.monotonic()
        app.conf.task_queues = [*app.conf.task_queues, self.queue]

        # Acknowledged at once, so that no copy is given back for a worker that is gone. No events: flower shows work.
        @app.task(name=CANARY_TASK, acks_late=False, send_events=False)
        def canary() -> None:
            self._shared[0] = time.monotonic()

    @property
    def seen_at(self) -> float:
        """When a child last ran it, on the monotonic clock; at first, when it was made."""
        return self._shared[0]

    def send(self) -> None:
        """Send one, in place of any that still waits; blocks for some seconds at most.

        Raises StoreAway when Redis does not take it: away, frozen, read-only or full.
        """
        try:
            # A connection of its own each time: it cannot have died unnoticed.
            with self._broker.connection(_OPTIONS) as connection:
                self._app.send_task(CANARY_TASK, queue=self.queue.name, connection=connection, retry=False)
                channel: Any = connection.default_channel
                channel.client.ltrim(self.queue.name, 0, 0)
                channel.client.expire(self.queue.name, KEEP_SECONDS)
        except (OperationalError, RedisError, OSError) as error:
            raise StoreAway(f"Redis takes no message: {str(error) or type(error).__name__}") from None
