"""The ingress process: settings in, sockets open, uvicorn around the application."""

import logging
import resource
import socket
from functools import partial
from pathlib import Path

import structlog
import uvicorn

from ingress.addresses import TrustedProxies
from ingress.app import compose
from ingress.connections import FILES_KEPT, MOST, Connections
from ingress.metrics import IngressMetrics, serve_metrics
from ingress.protocol import BoundedProtocol
from shared import strangers
from shared.blobs import BlobStore
from shared.errors import SettingsError
from shared.logs import set_up_logs
from shared.providers.registry import PROVIDERS
from shared.publishing import Publisher
from shared.sealing import Keys
from shared.settings import Settings
from shared.tracing import open_tracing
from shared.watching import ConfigurationWatch


BACKLOG = 4096
KEEP_ALIVE_SECONDS = 75
DRAIN_SECONDS = 10
UNREAD_MILLISECONDS = 30_000
OPEN_FILES = 65_536


def serve(
    settings: Settings, *, fd: int | None, host: str, port: int, metrics_port: int, heartbeat: Path | None = None
) -> None:
    """Run until SIGTERM or SIGINT, then finish what is in hand. ``fd`` is a bound socket to take over.

    ``metrics_port`` 0 serves no metrics; ``heartbeat`` is touched every second. Raises SettingsError, StoreAway.
    """
    if settings.database_url is None:
        raise SettingsError("PENSTOCK_DATABASE_URL: not set; `penstock up` starts a Postgres of its own")
    if settings.redis_url is None:
        raise SettingsError("PENSTOCK_REDIS_URL: not set; `penstock up` starts a Redis of its own")
    set_up_logs(settings.log_level, settings.log_format)
    strangers.tell()
    proxies = TrustedProxies(settings.trusted_proxies)
    connections = Connections(proxies, most=min(MOST, max(1, _allowed_files() - FILES_KEPT)))
    keys = Keys.parse(settings.encryption_keys)
    watch = ConfigurationWatch(settings.config)
    redis_url = settings.redis_url.get_secret_value()
    publisher = Publisher(redis_url, watch.current.timing, PROVIDERS)
    app = compose(
        providers=PROVIDERS,
        watch=watch,
        database_url=settings.database_url.get_secret_value(),
        redis_url=redis_url,
        keys=keys,
        blobs=BlobStore.open(settings.blobs, keys),
        publisher=publisher,
        metrics=IngressMetrics(),
        data=settings.data,
        heartbeat=heartbeat,
        proxies=proxies,
        tracing=open_tracing("penstock-ingress"),
    )
    listener = _listener(fd, host, port)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Inherited by each connection: who does not read its answers is cut off (tcp(7)).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
    if metrics_port:
        serve_metrics(metrics_port, host)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(BoundedProtocol, admission=connections),  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        # One of its lines would hold the path, and the path holds Paybook's token.
        access_log=False,
        proxy_headers=False,
        # Said, for uvicorn would take them from WEB_CONCURRENCY and FORWARDED_ALLOW_IPS.
        workers=1,
        forwarded_allow_ips="",
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    # Every malformed request would be a line of its own, without saying from whom.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    structlog.get_logger("penstock.ingress").info("listening", port=listener.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listener])


def _allowed_files() -> int:
    """Let there be as many open files as this user may have, and say how many.

    While a store is away each waiting request holds a connection.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def _listener(fd: int | None, host: str, port: int) -> socket.socket:
    if fd is not None:
        return socket.socket(fileno=fd)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(f"PENSTOCK_INGRESS_PORT: cannot listen on {host} port {port}: {error.strerror}") from None
