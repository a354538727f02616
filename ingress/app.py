"""Puts ingress together: what is made at start, how it is wired, and the order in which it ends."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ingress.addresses import TrustedProxies
from ingress.arriving import tell_of_arrivals
from ingress.body import BodyReader
from ingress.failures import FailedAttempts
from ingress.gauging import gauge
from ingress.health import HEALTH_PATHS, Health
from ingress.incoming import IncomingArea
from ingress.keeping import Keeping
from ingress.learning import tell
from ingress.pointers import Pointers, Publisher
from ingress.quarantine import Quarantine
from ingress.receive import Reception
from ingress.refusals import REFUSALS, WrongMethod
from ingress.routes import Routes
from shared.background import Background
from shared.heartbeat import beat
from shared.store import known_accounts
from shared.store.keys import keep as keep_data_keys


if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ingress.metrics import IngressMetrics
    from shared.blobs import BlobStore
    from shared.providers.interface import Provider
    from shared.sealing import Keys
    from shared.store.inbox import NewEvent
    from shared.tracing import Tracing
    from shared.watching import ConfigurationWatch

START_SECONDS = 2.0
"""So long the start waits at most for data keys, and for the accounts that are known."""

SHOW_SECONDS = 1.0


def compose(
    *,
    providers: "Mapping[str, Provider[Any, Any]]",
    watch: "ConfigurationWatch",
    database_url: str,
    redis_url: str,
    keys: "Keys",
    blobs: "BlobStore",
    publisher: Publisher,
    metrics: "IngressMetrics",
    data: Path,
    heartbeat: Path | None = None,
    proxies: TrustedProxies | None = None,
    tracing: "Tracing | None" = None,
) -> "ASGIApp":
    """The ASGI application; its lifespan starts and stops what runs beside the requests. Raises StoreAway."""
    area = IncomingArea(data / "incoming")
    pointers = Pointers(publisher)

    def on_kept(events: "Sequence[NewEvent]") -> None:
        pointers.announce((event.provider, event.id) for event in events)
        metrics.committed(len(events))

    keeping = Keeping(database_url, redis_url, on_kept=on_kept)
    routes = Routes(providers, watch)
    quarantine = Quarantine(database_url, keys, routes)
    reception = Reception(
        routes=routes,
        bodies=BodyReader(keys, area),
        blobs=blobs,
        keeper=keeping,
        metrics=metrics,
        proxies=proxies or TrustedProxies(),
        failures=FailedAttempts(),
        quarantine=quarantine,
        tracing=tracing,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        has_keys, knows_accounts = asyncio.Event(), asyncio.Event()
        beside = Background()
        beside.start("configuration", watch.run)
        beside.start("learning", partial(tell, routes))
        beside.start("gauges", partial(gauge, keeping, metrics))
        beside.start("arrivals", partial(tell_of_arrivals, redis_url, metrics, routes, keys))
        beside.start("quarantine", quarantine.run)
        beside.start("data-keys", partial(keep_data_keys, database_url, keys, watch.accounts, ready=has_keys))
        beside.start("known-accounts", partial(known_accounts.keep, database_url, watch, ready=knows_accounts))
        beside.start("settings", partial(_show_settings, watch, metrics))
        if heartbeat:
            beside.start("heartbeat", partial(beat, heartbeat))
        pointers.start()
        keeping.start()
        # without Postgres bodies are sealed with the master key, and who is unknown is told to come again
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await has_keys.wait()
                await knows_accounts.wait()
        # What was made until now stays: a collection of garbage that walked through it would hold every request up.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            await beside.stop()
            await keeping.stop()
            await asyncio.to_thread(pointers.stop)
            metrics.flush()
            if tracing:
                await asyncio.to_thread(tracing.close)
            area.close()

    rest = Starlette(
        routes=Health(database_url, keeping).routes(),
        lifespan=lifespan,
        exception_handlers={405: _wrong_method},
    )

    async def ingress(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"] in HEALTH_PATHS:
            await rest(scope, receive, send)
        else:
            await reception(scope, receive, send)

    return ingress


async def _show_settings(watch: "ConfigurationWatch", metrics: "IngressMetrics") -> None:
    """Until cancelled."""
    while True:
        metrics.settings(watch)
        await asyncio.sleep(SHOW_SECONDS)


def _wrong_method(_request: Request, error: Exception) -> Response:
    refusal = REFUSALS[WrongMethod]
    headers = error.headers if isinstance(error, HTTPException) else None
    return Response(refusal.body, refusal.status, headers, "application/json")
