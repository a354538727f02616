"""Flower, Celery's own page: behind a password, without a hand on the workers, and with every queue."""

import os
import signal
from types import FrameType
from typing import Final

import structlog
import tornado.web
from celery import Celery
from flower.api.tasks import GetQueueLengths
from flower.app import Flower
from flower.command import extract_settings, setup_logging
from flower.options import options
from flower.urls import settings as page_settings
from flower.utils import strtobool
from flower.views.broker import BrokerView
from flower.views.monitor import Metrics
from tornado.options import Error

from ops.supervisor.secrets import flower_password
from shared.celery_application import own_application
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.providers.registry import PROVIDERS
from shared.publishing import celery_settings
from shared.settings import Settings


USER = "penstock"
MOST_TASKS = 10_000
"""Flower keeps finished tasks in memory; its default of 100,000 takes some 300 MB (mher/flower issue 134)."""


VIEW: Final = (
    *("max_workers", "max_tasks", "inspect_timeout", "auto_refresh", "purge_offline_workers", "natural_time"),
    *("tasks_columns", "task_runtime_metric_buckets", "url_prefix", "cookie_secret", "xheaders"),
)
"""The options of flower that its variables may set. Where it listens, who gets in and what they may do is ours; of the
rest a stray variable (such as the one that Kubernetes makes of a Service named ``flower``) could end it."""


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
    celery = own_application("penstock")
    celery.conf.update(celery_settings(redis_url, read_configuration(settings.config).timing, PROVIDERS))
    return celery


def serve_flower(celery: Celery, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. How pages look may be set as ``FLOWER_...`` (``VIEW``). Raises SettingsError."""
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
    # Asked for with each request (flower/views/__init__.py).
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
    options.max_tasks = MOST_TASKS
    options.read_only = True
    options.address, options.port = settings.host, settings.flower_port
    options.basic_auth = [f"{USER}:{password}"]
    for name in VIEW:
        if text := os.environ.get(f"FLOWER_{name.upper()}"):
            _set_option(name, text)
    extract_settings()


def _set_option(name: str, text: str) -> None:
    """As flower reads its variables; one that it could not read is left out, and pages are shown without it."""
    # The table by which flower itself reads them; tornado's names have dashes.
    option = options._options[name.replace("_", "-")]  # noqa: SLF001 - nothing else knows an option's type
    try:
        if option.multiple:
            setattr(options, name, [option.type(each) for each in text.split(",")])
        else:
            setattr(options, name, bool(strtobool(text)) if option.type is bool else option.type(text))
    except (ValueError, Error) as error:
        structlog.get_logger("penstock.flower").warning(
            "a variable of flower is left out: it cannot be read", variable=f"FLOWER_{name.upper()}", reason=str(error)
        )


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
