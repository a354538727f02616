"""Sending wake-ups to the workers: ids and nothing else, through Celery's own wire format.

The settings and their reasons are measured in docs/decisions/0002-celery.md. The worker's application is made from the
same ``celery_settings``: everybody on one Redis database must agree on the visibility timeout and the queues.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from kombu import Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.broker import broker_of
from shared.celery_application import own_application
from shared.configuration import Timing
from shared.errors import StoreAway
from shared.queue import HANDLERS_QUEUE, queue_of
from shared.settings import without_password


SOCKET_SECONDS = 2.0
"""How long a publisher waits for Redis: a frozen one would otherwise hold its thread for ever."""


def celery_settings(redis_url: str, timing: Timing, providers: Iterable[str]) -> dict[str, Any]:
    """What every Celery application on this Redis has in common; ``providers`` are all that the registry holds."""
    broker = broker_of(redis_url) if redis_url else None
    return {
        "broker_url": broker.url if broker else "",
        "broker_use_ssl": broker.tls if broker else None,
        "broker_transport_options": {
            **(broker.options if broker else {}),
            "visibility_timeout": timing.visibility_timeout_seconds,
            # The sweep for messages of a killed worker comes every 100 s unless told otherwise.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        "visibility_timeout": timing.visibility_timeout_seconds,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "result_backend": None,
        # A mistyped queue fails instead of filling one that nobody reads.
        "task_create_missing_queues": False,
        "task_queues": [Queue(HANDLERS_QUEUE), *(Queue(queue_of(provider)) for provider in providers)],
        # Must be one of task_queues. Messages go to a queue by its name through the default exchange (''), so they
        # arrive even when Redis was flushed and its binding sets are gone.
        "task_default_queue": HANDLERS_QUEUE,
        "enable_utc": True,
        "timezone": "UTC",
    }


class Publisher:
    """A Celery application that only sends: short deadlines and no retries, for the row is the retry."""

    def __init__(self, redis_url: str, timing: Timing, providers: Iterable[str]) -> None:
        self._url = redis_url
        self._app = own_application("penstock.publisher")
        settings = celery_settings(redis_url, timing, providers)
        settings["broker_transport_options"] |= {
            "socket_timeout": SOCKET_SECONDS,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        }
        # A connection a thread that publishes; one more thread than connections would wait without a deadline.
        self._app.conf.update(settings, task_publish_retry=False, broker_pool_limit=4)

    def publish(self, task_name: str, queue: str, args: Sequence[Any]) -> None:
        """Send one message; blocks for about two seconds at most. Raises StoreAway (the message may still arrive)."""
        try:
            self._app.send_task(task_name, args=args, queue=queue, retry=False)
        except (OperationalError, RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise StoreAway(f"Redis does not answer at {without_password(self._url)}: {reason}") from None

    def waits(self, queue: str) -> bool:
        """Whether a message lies on the queue that nobody has taken; blocks as ``publish`` does. Raises StoreAway."""
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                channel: Any = producer.channel
                return bool(channel.client.llen(queue))
        except (OperationalError, RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise StoreAway(f"Redis does not answer at {without_password(self._url)}: {reason}") from None

    def close(self) -> None:
        """Give the connections back."""
        self._app.close()
