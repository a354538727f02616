"""``/health/live`` and ``/health/ready``. Ready is who can acknowledge; it says which store is away, not where."""

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.errors import StoreAway, StoreUnfit
from shared.spool import SpoolRefused
from shared.store.postgres import AWAY, connect_once


if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping


HEALTH_PATHS: Final = frozenset({"/health/live", "/health/ready"})
TRY_SECONDS: Final = 1.0
KEEP_SECONDS: Final = 1.0
"""How long an answer is good for: the route is public, and must not be a way to open connections without end."""


class Stores(Protocol):
    """What ``ingress.keeping.Keeping`` knows of the stores."""

    def away(self) -> set[str]:
        """The stores that are known not to do their work."""

    async def check_spool(self) -> None:
        """Return if events can be spooled now. Raises SpoolRefused, StoreAway."""


class Health:
    """Answers the two health routes."""

    def __init__(self, database_url: str, stores: Stores) -> None:
        self._database_url = database_url
        self._stores = stores
        self._one_at_a_time = asyncio.Lock()
        self._tried_at = float("-inf")
        self._state: Mapping[str, str] = {}
        self._can_spool = False
        self._unfit = False
        self._log = structlog.get_logger("penstock.ingress")

    def routes(self) -> list[Route]:
        """The two routes."""
        return [Route("/health/live", self.live), Route("/health/ready", self.ready)]

    async def live(self, _request: Request) -> Response:
        """200 as long as the event loop turns."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """200 while an event can be kept in Postgres or in the spool, else 503; both name each store that is away."""
        async with self._one_at_a_time:
            if time.monotonic() - self._tried_at >= KEEP_SECONDS:
                await self._try()
                self._tried_at = time.monotonic()
            stores = self._state
            # Nobody would ever move what is spooled into a database that cannot hold it.
            ready = stores["postgres"] == "ok" or (self._can_spool and not self._unfit)
        if ready:
            return JSONResponse({"status": "ok", "stores": stores})
        away = [name for name, state in stores.items() if state == "away"]
        detail = " and ".join(away) + (" does not answer" if len(away) == 1 else " do not answer")
        if self._unfit:
            detail = "postgres answers, and its database cannot hold what is sent; `penstock check` says why"
        elif stores["redis"] == "ok":
            detail += ", and Redis is not fit to keep events meanwhile"
        return JSONResponse(
            {"error": "unavailable", "detail": f"{detail[0].upper()}{detail[1:]}.", "stores": stores},
            status_code=503,
            headers={"Retry-After": "5"},
        )

    async def _try(self) -> None:
        postgres, redis = await asyncio.gather(
            self._answer("postgres", _try_postgres(self._database_url)),
            self._answer("redis", self._stores.check_spool()),
        )
        # A server that answers and takes nothing, such as a read-only one, is known from what requests met.
        known = self._stores.away()
        answers = {"postgres": postgres, "redis": redis}
        self._unfit = postgres == "unfit"
        self._state = {name: "away" if name in known or answer == "away" else "ok" for name, answer in answers.items()}
        if self._unfit:
            self._state["postgres"] = "away"
        self._can_spool = redis == "ok" and self._state["redis"] == "ok"

    async def _answer(self, name: str, trying: "Awaitable[None]") -> str:
        """``ok``, ``away``, or ``unfit``: it answers and cannot be relied on."""
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await trying
        except SpoolRefused:
            return "unfit"
        except StoreUnfit as error:
            self._log.warning("a store is not fit", store=name, reason=str(error))
            return "unfit"
        except (StoreAway, *AWAY) as error:
            self._log.warning("a store is away", store=name, reason=str(error) or type(error).__name__)
            return "away"
        return "ok"


async def _try_postgres(url: str) -> None:
    connection = await connect_once(url)
    try:
        await connection.execute("SELECT 1")
    finally:
        connection.terminate()
