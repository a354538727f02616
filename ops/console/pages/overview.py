"""Overview: counts per provider, how each is acknowledged and called, and what came in the last hour and day."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ops.console.charts import chart
from ops.console.pulse import DAY_MINUTES, Pulse
from ops.console.rendering import page
from ops.stuck import Stuck, stuck
from shared.providers.registry import PROVIDERS
from shared.store.reading.connecting import reading
from shared.store.reading.counting import stats
from shared.store.reading.stuck import standing


async def show(request: Request) -> Response:
    """Counts per provider, charts of what came in."""
    pulse: Pulse = request.app.state.pulse
    charts = [
        chart("Last hour", "a minute", pulse.bars(minutes=60, width=1)),
        chart("Last day", "in half an hour", pulse.bars(minutes=DAY_MINUTES, width=30)),
    ]
    standings = await request.app.state.standings.now()
    rows, found = await _rows(request), await stuck_now(request)
    return page(request, "overview.html", {"rows": rows, "standings": standings, "charts": charts, "stuck": found})


async def api_stats(request: Request) -> Response:
    """The same figures, for the overview's script."""
    standings = {each["provider"]: each for each in await request.app.state.standings.now()}
    return JSONResponse([{**row, "standing": standings[row["provider"]]} for row in await _rows(request)])


async def stuck_now(request: Request) -> Sequence[Stuck]:
    """What is stuck."""
    configuration = request.app.state.watch.current
    async with reading(request.app.state.engine) as connection:
        found = await standing(connection, list(PROVIDERS), configuration.timing.lease_seconds)
    return stuck(found, configuration.watch.stuck_minutes)


async def _rows(request: Request) -> list[Any]:
    return [*await stats(request.app.state.engine, request.app.state.redis, list(PROVIDERS))]
