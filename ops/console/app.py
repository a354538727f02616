"""The console as an ASGI application, and how it is served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ops.calls import urls_of_calls
from ops.console.access import SIGN_IN, Access
from ops.console.attempts import Attempts
from ops.console.forms import posting
from ops.console.pages import (
    accounts,
    attention,
    bodies,
    event,
    events,
    handovers,
    overview,
    quarantine,
    records,
    signing_in,
)
from ops.console.pulse import Pulse
from ops.console.rendering import FOLDER, refused, store_away, unexpected
from ops.console.retrying import Background
from ops.console.sessions import Sessions
from ops.console.standing import Standings
from ops.console.visitors import Visitors
from shared.budgets import Budgets
from shared.errors import SettingsError, StoreAway
from shared.redis_clients import open_redis
from shared.settings import Settings
from shared.store.reading.connecting import reading_engine
from shared.watching import ConfigurationWatch


_REDIS_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 5
_HASHES_AT_ONCE: Final = 2
"""Each takes 64 MiB and a tenth of a second of a core."""


def routes() -> list[BaseRoute]:
    """Every page; whatever changes something is a ``posting``."""
    return [
        Route("/", overview.show),
        Route("/api/stats", overview.api_stats),
        Route("/events", events.show),
        Route("/events/{event_id:uuid}", event.show, name="event"),
        posting("/events/{event_id:uuid}/retry", event.retry, name="retry"),
        posting("/events/{event_id:uuid}/discard", event.discard, name="discard"),
        posting("/events/{event_id:uuid}/body", bodies.show, name="body"),
        posting("/events/{event_id:uuid}/body/file", bodies.download, name="body-file"),
        posting("/events/{event_id:uuid}/body/images/{number:int}", bodies.image, name="image"),
        Route("/attention", attention.show),
        Route("/attention/retry", attention.preview),
        posting("/attention/retry", attention.start, name="start-retry"),
        posting("/attention/discard", attention.discard, name="discard-group"),
        Route("/attention/retries/{number:int}", attention.progress),
        Route("/records", records.show),
        Route("/records/one", records.one),
        Route("/accounts", accounts.show),
        Route("/quarantine", quarantine.show),
        posting("/quarantine/release", quarantine.release_all, name="release-all"),
        posting("/events/{event_id:uuid}/release", quarantine.release_one, name="release"),
        Route("/handovers", handovers.show),
        posting("/handovers/retry", handovers.retry, name="retry-handover"),
        posting("/handovers/discard", handovers.discard, name="discard-handover"),
        Route(SIGN_IN, signing_in.show),
        posting(SIGN_IN, signing_in.sign_in, name="sign-in", open_to_all=True),
        posting("/sign-out", signing_in.sign_out, name="sign-out", open_to_all=True),
        Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static"),
    ]


def create(settings: Settings) -> Starlette:
    """The application; it connects to the stores when a page needs them. Raises SettingsError."""
    if settings.database_url is None:
        raise SettingsError("no database: start `penstock up` here, or set PENSTOCK_DATABASE_URL")
    read_url = (settings.read_database_url or settings.database_url).get_secret_value()
    watch = ConfigurationWatch(settings.config)
    visitors = Visitors(watch, password=settings.console_password, proxies=settings.trusted_proxies)
    sessions = Sessions(settings.encryption_keys)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            app.state.settings = settings
            app.state.watch = watch
            app.state.visitors = visitors
            app.state.attempts = Attempts()
            app.state.hashing = asyncio.Semaphore(_HASHES_AT_ONCE)
            app.state.engine = reading_engine(read_url, name="console")
            opened.push_async_callback(app.state.engine.dispose)
            app.state.redis = app.state.budgets = None
            if settings.redis_url is not None:
                url = settings.redis_url.get_secret_value()
                app.state.redis = await opened.enter_async_context(open_redis(url, seconds=_REDIS_SECONDS))
                app.state.budgets = Budgets(url)
                opened.push_async_callback(app.state.budgets.close)
            app.state.standings = Standings(watch, app.state.redis, app.state.budgets)
            app.state.url_of = urls_of_calls(settings)
            app.state.background = Background(settings)
            opened.push_async_callback(app.state.background.close)
            app.state.pulse = Pulse(app.state.engine)
            for work in (watch.run(), app.state.pulse.run()):
                opened.push_async_callback(_end, asyncio.create_task(work))
            yield

    return Starlette(
        routes=routes(),
        middleware=[Middleware(Access, visitors=visitors, sessions=sessions)],
        exception_handlers={StoreAway: store_away, HTTPException: refused, 500: unexpected},
        lifespan=lifespan,
    )


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError."""
    uvicorn.run(
        create(settings),
        host=settings.host,
        port=settings.console_port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who is near is told by the connection alone
        # Said, for uvicorn would take them from WEB_CONCURRENCY and FORWARDED_ALLOW_IPS.
        workers=1,
        forwarded_allow_ips="",
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
