"""Pages from templates: everything that they show is escaped, since it comes from outside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.templating import Jinja2Templates

from ops.console import wording
from shared.providers.registry import PROVIDERS
from shared.store.schema import EVENT_STATES


FOLDER: Final = Path(__file__).parent
RETRY_SECONDS: Final = 5

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    count=wording.count,
    age=wording.age,
    milliseconds=wording.milliseconds,
    moment=wording.moment,
    size=wording.size,
    sentence=wording.sentence,
)
_environment.globals.update(states=EVENT_STATES, providers=list(PROVIDERS))
_templates = Jinja2Templates(env=_environment)


def page(
    request: Request,
    template: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The template with this context, the ``visitor`` and the word for its forms (``csrf``)."""
    state = request.scope.get("state", {})
    session = state.get("session")
    known = {"visitor": state.get("visitor"), "csrf": session.csrf if session else ""}
    return _templates.TemplateResponse(
        request, template, {**known, **context}, status_code=status, headers=dict(headers or {})
    )


async def store_away(request: Request, error: Exception) -> Response:
    """A page that says what is away and tries again by itself; for the script, the sentence."""
    headers = {"Retry-After": str(RETRY_SECONDS)}
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": "unavailable", "detail": str(error)}, 503, headers)
    again = RETRY_SECONDS if request.method in {"GET", "HEAD"} else None
    context = {"title": "The store is away", "sentence": str(error), "retry_seconds": again}
    return page(request, "message.html", context, status=503, headers=headers)


async def refused(request: Request, error: Exception) -> Response:
    """A page for what is not there, or not allowed."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    sentence = error.detail if isinstance(error, HTTPException) else ""
    title = {400: "Not understood", 403: "Not allowed", 404: "Not found", 405: "Not possible"}.get(status, f"{status}")
    context = {"title": title, "sentence": sentence, "retry_seconds": None}
    headers = error.headers if isinstance(error, HTTPException) else None
    return page(request, "message.html", context, status=status, headers=headers)


async def unexpected(request: Request, error: Exception) -> Response:
    """A page for a fault of ours; the log has the rest."""
    del error
    context = {"title": "500", "sentence": "Something went wrong; the console's log says what.", "retry_seconds": None}
    return page(request, "message.html", context, status=500)
