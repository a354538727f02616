"""What a worker process shows of itself: one figure, and whether it lives."""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, make_wsgi_app

from shared.errors import SettingsError
from shared.metric_files import page_of
from workers.forking import FORK_LOCK


if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LIVE_PATH: Final = "/health/live"
Live = Callable[[], bool]


class WorkerMetrics:
    """A worker process's own figures; made once a registry."""

    def __init__(self, worker: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._age = Gauge(
            "penstock_worker_canary_age_seconds",
            "Since the worker last ran the canary that it sends itself",
            ("worker",),
            multiprocess_mode="livemax",
            registry=registry,
        ).labels(worker)

    def canary_age(self, seconds: float) -> None:
        """How long ago the canary was seen."""
        self._age.set(seconds)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Probes come every few seconds."""


def serve(port: int, host: str, live: Live) -> int:
    """Answer ``/metrics`` and ``/health/live`` (200, or 503 when dead), in a thread; the port, which 0 leaves open.

    With PROMETHEUS_MULTIPROC_DIR set, ``/metrics`` is of all processes that share it. Raises SettingsError.
    """
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = page_of(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    metrics: WSGIApplication = make_wsgi_app(registry)

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ.get("PATH_INFO") != LIVE_PATH:
            with FORK_LOCK:
                return metrics(environ, start_response)
        alive = live()
        start_response("200 OK" if alive else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [orjson.dumps({"status": "ok" if alive else "dead"})]

    try:
        server = make_server(host, port, answer, server_class=_Server, handler_class=_Silent)
    except OSError as error:
        raise SettingsError(f"--metrics-port: cannot listen on {host} port {port}: {error.strerror}") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port
