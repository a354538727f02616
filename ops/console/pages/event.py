"""One event: what happened to it and why, what it led to, and trying it again."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ops import advice
from ops.cli.store import writing_store
from ops.console.forms import Form
from ops.console.rendering import page
from ops.forecasts import with_forecast
from shared.store import replaying
from shared.store.reading.connecting import reading
from shared.store.reading.effects import duplicates_of, effects_of, handovers_of
from shared.store.reading.events import head_of, show_event
from shared.store.replaying import DONE, EXPLANATIONS
from shared.store.selecting import Selection


UNFINISHED = frozenset({"received", "processing", "waiting"})


async def show(request: Request) -> Response:
    """Its timeline, its calls, its headers, its effects."""
    return await render(request, request.path_params["event_id"])


async def render(request: Request, event_id: UUID, more: Mapping[str, Any] | None = None) -> Response:
    """The page; ``more`` is its body, for whoever asked for it."""
    async with reading(request.app.state.engine) as connection:
        found = await show_event(connection, event_id, request.app.state.url_of)
        head = await head_of(connection, event_id)
        if found is None or head is None:
            raise HTTPException(404, f"There is no event {event_id}.")
        effects = await effects_of(connection, event_id)
        context = {
            "head": head,
            "effects": effects,
            "handovers": await handovers_of(connection, effects),
            "duplicates": await duplicates_of(connection, event_id),
            "event": await with_forecast(connection, found, request.app.state.settings),
            "unfinished": found.state in UNFINISHED,
            "advice": advice.about_event(found.error.reason) if found.error else None,
            "said": _said(request),
            "body": None,
        }
    return page(request, "event.html", {**context, **(more or {})})


async def retry(request: Request, form: Form) -> Response:
    """Plan it again, or make its waiting calls now; the page says what became of that."""
    event_id: UUID = request.path_params["event_id"]
    reason = form.get("reason", "").strip()[:200] or "retried"
    outcomes = []
    async with writing_store(request.app.state.settings) as connection:
        note = f"{reason} (by {request.state.visitor.name}, console)"
        async for batch in replaying.replay(connection, Selection(ids=(event_id,)), note=note):
            outcomes += [event.outcome for event in batch]
    if not outcomes:
        raise HTTPException(404, f"There is no event {event_id}.")
    return RedirectResponse(f"/events/{event_id}?said={outcomes[0]}", 303)


def _said(request: Request) -> tuple[bool, str] | None:
    """Whether a retry was done, and the sentence."""
    for outcome, sentence in EXPLANATIONS.items():
        if outcome == request.query_params.get("said"):
            return outcome in DONE, f"It {sentence}."
    return None
