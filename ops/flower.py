"""Flower, Celery's own page: behind a password, without a hand on the workers, and with every queue."""

import os
import signal
from types import FrameType
from typing import Any

import tornado.web
from celery import Celery
from flower.api.tasks import GetQueueLengths
from flower.app import Flower
from flower.command import apply_env_options, extract_settings, setup_logging
from flower.options import options
from flower.urls import settings as page_settings
from flower.views.broker import BrokerView
from flower.views.monitor import Metrics

from ops.supervisor.secrets import flower_password
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.providers.registry import PROVIDERS
from shared.publishing import celery_settings
from shared.settings import Settings


USER = "penstock"
MOST_TASKS = 10_000
"""Flower keeps finished tasks in memory; its default of 100,000 takes some 300 MB (mher/flower issue 134)."""


class _EveryQueue:
    """Flower asks the workers for their queues once, at its start, and would not show those of a later worker."""

    capp: Celery

    def get_active_queue_names(self) -> list[str]:
        """The queues that the settings name."""
        return sorted(queue.name for queue in self.capp.conf.task_queues)


class _Broker(_EveryQueue, BrokerView):  # type: ignore[misc]  # flower has no types
    """The page of queues."""


class _QueueLengths(_EveryQueue, GetQueueLengths):  # type: ignore[misc]  # flower has no types
    """The same for programs."""


class _Metrics(Metrics):  # type: ignore[misc]  # flower has no types
    """Names tasks and workers, so it asks for the password as every other page does."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """Flower's own figures."""
        await super().get()


def application(settings: Settings) -> Celery:
    """The workers' application as far as flower looks at it: their Redis and queues, but none of their tasks.

    The settings are theirs: a visibility timeout holds for every process on this Redis. Raises SettingsError.
    """
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    celery = Celery("penstock", set_as_current=False)
    celery.conf.update(celery_settings(redis_url, read_configuration(settings.config).timing, PROVIDERS))
    return celery


def serve_flower(celery: Celery, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Any option of flower may be set as ``FLOWER_...``. Raises SettingsError."""
    _set_options(settings)
    setup_logging()
    pages = Flower(capp=celery, options=options, **page_settings)
    pages.add_handlers(
        ".*", [(r"/broker", _Broker), (r"/api/queues/length", _QueueLengths), (r"/metrics", _Metrics)]
    )  # tornado asks handlers that were added before those of the start
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:
        pages.start_http_server()
        pages.start()
    except OSError as error:
        raise SettingsError(
            f"PENSTOCK_FLOWER_PORT: cannot listen on {settings.host}:{settings.flower_port}: {error.strerror}"
        ) from None
    except SystemExit:
        pages.stop()


def _set_options(settings: Settings) -> None:
    password = flower_password(settings)
    if not password.isascii():
        raise SettingsError("PENSTOCK_FLOWER_PASSWORD: flower compares ASCII only; choose a password of such letters")
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
    chosen: dict[str, Any] = {"read_only": True, "max_tasks": MOST_TASKS}
    always = {"address": settings.host, "port": settings.flower_port, "basic_auth": [f"{USER}:{password}"]}
    _assign(chosen)
    apply_env_options()
    _assign(always)
    extract_settings()


def _assign(values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(options, name, value)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
