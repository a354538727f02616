"""The console's pages and the one address for its script: each reads the store and renders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.templating import Jinja2Templates

from ops.console import wording
from shared.providers.registry import PROVIDERS
from shared.store.reading.connecting import reading
from shared.store.reading.counting import stats
from shared.store.reading.events import Filters, UrlOf, head_of, list_events, show_event
from shared.store.schema import EVENT_STATES


FOLDER: Final = Path(__file__).parent
PER_PAGE: Final = 50
RETRY_SECONDS: Final = 5

# Everything that a page shows is escaped: it comes from outside.
_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(count=wording.count, age=wording.age, moment=wording.moment, size=wording.size)
_environment.globals.update(states=EVENT_STATES, providers=list(PROVIDERS))
_templates = Jinja2Templates(env=_environment)


async def overview(request: Request) -> Response:
    """Counts per provider."""
    rows = await stats(request.app.state.engine, request.app.state.redis, list(PROVIDERS))
    return _page(request, "overview.html", {"rows": rows})


async def api_stats(request: Request) -> Response:
    """The same counts, for the overview's script."""
    rows = await stats(request.app.state.engine, request.app.state.redis, list(PROVIDERS))
    return JSONResponse(rows)


async def events(request: Request) -> Response:
    """Events, newest first, filtered, a page at a time by the id of the last one."""
    query = request.query_params
    chosen = {name: query[name] for name in ("provider", "state") if query.get(name)}
    filters = Filters(provider=chosen.get("provider"), state=chosen.get("state"), before=_before(query.get("before")))
    async with reading(request.app.state.engine) as connection:
        # one more than is shown says whether there is a next page
        found = [event async for batch in list_events(connection, filters, limit=PER_PAGE + 1) for event in batch]
    shown = found[:PER_PAGE]
    older = f"?{urlencode({**chosen, 'before': str(shown[-1].id)})}" if len(found) > PER_PAGE else None
    newest = f"?{urlencode(chosen)}" if filters.before else None
    return _page(request, "events.html", {"events": shown, "chosen": chosen, "older": older, "newest": newest})


async def event(request: Request) -> Response:
    """One event: its timeline, its calls, its headers."""
    event_id: UUID = request.path_params["event_id"]
    url_of: UrlOf = request.app.state.url_of
    async with reading(request.app.state.engine) as connection:
        found = await show_event(connection, event_id, url_of)
        head = await head_of(connection, event_id)
    if found is None or head is None:
        raise HTTPException(404, f"There is no event {event_id}.")
    return _page(request, "event.html", {"event": found, "head": head})


async def store_away(request: Request, error: Exception) -> Response:
    """A page that says what is away and tries again by itself; for the script, the sentence."""
    headers = {"Retry-After": str(RETRY_SECONDS)}
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": "unavailable", "detail": str(error)}, 503, headers)
    context = {"title": "The store is away", "sentence": str(error), "retry_seconds": RETRY_SECONDS}
    return _page(request, "message.html", context, status=503, headers=headers)


async def refused(request: Request, error: Exception) -> Response:
    """A page for what is not there."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    sentence = error.detail if isinstance(error, HTTPException) else ""
    context = {"title": f"{status}", "sentence": sentence, "retry_seconds": None}
    return _page(request, "message.html", context, status=status)


async def unexpected(request: Request, error: Exception) -> Response:
    """A page for a fault of ours; the log has the rest."""
    del error
    context = {"title": "500", "sentence": "Something went wrong; the console's log says what.", "retry_seconds": None}
    return _page(request, "message.html", context, status=500)


def _page(
    request: Request,
    template: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    return _templates.TemplateResponse(request, template, dict(context), status_code=status, headers=headers)


def _before(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise HTTPException(400, "That is no page of this list.") from None
