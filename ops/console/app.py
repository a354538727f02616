"""The console as an ASGI application, and how it is served."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ops.calls import urls_of_calls
from ops.console import pages
from ops.console.access import Access
from shared.errors import SettingsError, StoreAway
from shared.settings import Settings
from shared.store.reading.connecting import reading_engine


_REDIS_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 5


def create(settings: Settings) -> Starlette:
    """The application; it connects to the stores when a page needs them. Raises SettingsError without a database."""
    if settings.database_url is None:
        raise SettingsError("no database: start `penstock up` here, or set PENSTOCK_DATABASE_URL")
    database_url = settings.database_url.get_secret_value()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            app.state.engine = reading_engine(database_url, name="console")
            opened.push_async_callback(app.state.engine.dispose)
            app.state.redis = None
            if settings.redis_url is not None:
                app.state.redis = await opened.enter_async_context(
                    Redis.from_url(
                        settings.redis_url.get_secret_value(),
                        socket_connect_timeout=_REDIS_SECONDS,
                        socket_timeout=_REDIS_SECONDS,
                    )
                )
            app.state.url_of = urls_of_calls(settings)
            yield

    return Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/events", pages.events),
            Route("/events/{event_id:uuid}", pages.event, name="event"),
            Route("/api/stats", pages.api_stats),
            Mount("/static", StaticFiles(directory=pages.FOLDER / "static"), name="static"),
        ],
        middleware=[Middleware(Access, password=settings.console_password)],
        exception_handlers={StoreAway: pages.store_away, HTTPException: pages.refused, 500: pages.unexpected},
        lifespan=lifespan,
    )


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
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
