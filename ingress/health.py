"""``/health/live`` and ``/health/ready``. Readiness tries both stores; it says which is away, never where it is."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.errors import StoreAway
from shared.store.postgres import AWAY, connect_once


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


HEALTH_PATHS: Final = frozenset({"/health/live", "/health/ready"})
TRY_SECONDS: Final = 1.0
KEEP_SECONDS: Final = 1.0
"""How long an answer is good for: the route is public, and must not be a way to open connections without end."""


class Health:
    """Answers the two health routes."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._checks: Mapping[str, Callable[[], Awaitable[None]]] = {
            "postgres": lambda: _try_postgres(database_url),
            "redis": lambda: _try_redis(redis_url),
        }
        self._one_at_a_time = asyncio.Lock()
        self._tried_at = float("-inf")
        self._away: list[str] = []
        self._log = structlog.get_logger("penstock.ingress")

    def routes(self) -> list[Route]:
        """The two routes."""
        return [Route("/health/live", self.live), Route("/health/ready", self.ready)]

    async def live(self, _request: Request) -> Response:
        """200 as long as the event loop turns."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """200, or 503 that names each store that is away."""
        async with self._one_at_a_time:
            if time.monotonic() - self._tried_at >= KEEP_SECONDS:
                tried = await asyncio.gather(*(self._is_away(name) for name in self._checks))
                self._away = [name for name, away in zip(self._checks, tried, strict=True) if away]
                self._tried_at = time.monotonic()
            away = self._away
        stores = {name: "away" if name in away else "ok" for name in self._checks}
        if not away:
            return JSONResponse({"status": "ok", "stores": stores})
        detail = f"{' and '.join(away)} {'does' if len(away) == 1 else 'do'} not answer."
        return JSONResponse(
            {"error": "unavailable", "detail": detail[0].upper() + detail[1:], "stores": stores},
            status_code=503,
            headers={"Retry-After": "5"},
        )

    async def _is_away(self, name: str) -> bool:
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await self._checks[name]()
        except (StoreAway, RedisError, *AWAY) as error:
            self._log.warning("a store is away", store=name, reason=str(error) or type(error).__name__)
            return True
        return False


async def _try_postgres(url: str) -> None:
    connection = await connect_once(url)
    try:
        await connection.execute("SELECT 1")
    finally:
        connection.terminate()


async def _try_redis(url: str) -> None:
    async with Redis.from_url(url, socket_timeout=TRY_SECONDS, socket_connect_timeout=TRY_SECONDS) as redis:
        await redis.ping()
