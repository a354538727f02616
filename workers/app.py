"""The Celery application of the workers: queues, limits, and two tasks a provider, each a shell over a step."""

import gc
from collections.abc import Callable
from typing import Any, TypeAlias

from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown

from shared.celery_application import own_application
from shared.logs import set_up_logs
from shared.providers.registry import PROVIDERS
from shared.publishing import celery_settings
from shared.queue import fetch_task, plan_task, queue_of
from shared.settings import Settings
from shared.watching import ConfigurationWatch
from workers.follow_up.flow import follow_up
from workers.pool import own_id
from workers.process import WorkerProcess
from workers.reconnecting import QuickAmqp, quieten


PROCESS_START_SECONDS = 60.0

COLLECT_EVERY = 50_000
"""So many new objects until the collector looks for circles; with Python's own 700 it took a tenth of a page's time."""

More: TypeAlias = Callable[[Celery, Callable[[], WorkerProcess]], None]
"""Adds tasks to the application, given how they come by what their process has."""


def create(settings: Settings, name: str = "worker", more: More | None = None) -> Celery:
    """The application for ``worker_main``; nothing connects before a worker process forks. ``more`` adds tasks to it.

    Each value's reason is measured in docs/decisions/0002-celery.md.
    """
    watch = ConfigurationWatch(settings.config)
    timing = watch.current.timing
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
    app = own_application("penstock", amqp=QuickAmqp)
    conf = celery_settings(redis_url, timing, PROVIDERS)
    conf["broker_transport_options"] |= {
        # Bounds every reply on a connection that died without a word; must exceed the 1 s of a blocking pop.
        "socket_timeout": 5,
        # The longer an idle connection goes unasked, the later is it known to be dead.
        "health_check_interval": 5,
        "max_connections": 200,
    }
    app.conf.update(
        conf,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_pool="workers.pool:TaskPool",
        task_soft_time_limit=timing.soft_limit_seconds,
        task_time_limit=timing.time_limit_seconds,
        worker_max_tasks_per_child=5000,
        worker_max_memory_per_child=400_000,
        # A child that starts while Postgres is away waits for it; Celery would kill it every 4 s.
        worker_proc_alive_timeout=PROCESS_START_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Messages carry batches, so flower's events cost little here; without them it shows nothing.
        worker_send_task_events=True,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
    )
    _register(app, settings, watch, name, more)
    return app


def _register(app: Celery, settings: Settings, watch: ConfigurationWatch, name: str, more: More | None) -> None:
    """The tasks, and the life of the process that they run in."""
    here: dict[str, WorkerProcess] = {}
    if more:
        more(app, lambda: here["process"])

    @worker_process_init.connect(weak=False)
    def start(**_: Any) -> None:
        # What is here stays: the collector need not walk over it for every page of thousands of objects.
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        here["process"] = WorkerProcess(settings, watch, name, own_id())
        here["process"].start()

    @worker_process_shutdown.connect(weak=False)
    def stop(**_: Any) -> None:
        if process := here.pop("process", None):
            process.stop()

    @setup_logging.connect(weak=False)
    def logs(**_: Any) -> None:
        set_up_logs(settings.log_level, settings.log_format)
        quieten()

    for provider in PROVIDERS:
        _register_provider(app, provider, here)


def _register_provider(app: Celery, provider: str, here: dict[str, WorkerProcess]) -> None:
    # The ids say what the message was sent for; what is taken up is whatever is due, of all accounts in turn.
    @app.task(name=plan_task(provider), queue=queue_of(provider))
    def plan_events(_ids: list[str]) -> str:
        process = here["process"]
        return process.run(follow_up(process, provider))

    @app.task(name=fetch_task(provider), queue=queue_of(provider))
    def make_fetches(_ids: list[int]) -> str:
        process = here["process"]
        return process.run(follow_up(process, provider))
