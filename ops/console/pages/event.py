"""One event: what happened to it and why, what it led to, and trying it again."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ops import advice
from ops.cli.store import writing_store
from ops.console.flower import flower_of
from ops.console.forms import Form, given_reason
from ops.console.rendering import page
from ops.forecasts import with_forecast
from shared.store import discarding, replaying
from shared.store.reading.connecting import reading
from shared.store.reading.differences import differences_of
from shared.store.reading.effects import duplicates_of, effects_of, handovers_of
from shared.store.reading.events import discard_of, head_of, show_event
from shared.store.reading.shapes import EventDetail
from shared.store.selecting import Selection


UNFINISHED: Final = frozenset({"received", "processing", "waiting"})
_EXPLANATIONS: Final[Mapping[str, str]] = {
    **{str(outcome): text for outcome, text in replaying.EXPLANATIONS.items()},
    **{str(outcome): text for outcome, text in discarding.EXPLANATIONS.items()},
    "released": "is let in: it is followed up now",
    "not-released": "is still not authentic: mend the key in the settings, then release it",
}
_DONE: Final = replaying.DONE | discarding.DONE | {"released"}


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
            "differences": await differences_of(connection, [effect.id for effect in effects]),
            "handovers": await handovers_of(connection, effects),
            "duplicates": await duplicates_of(connection, event_id),
            "discarded": await discard_of(connection, event_id),
            "in_quarantine": found.state == "quarantined",
            "refusal": _refusal(found),
            "flower": await flower_of(request),
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
    outcomes: list[str] = []
    async with writing_store(request.app.state.settings) as connection:
        note = f"{reason} (by {request.state.visitor.name}, console)"
        async for batch in replaying.replay(connection, Selection(ids=(event_id,)), note=note):
            outcomes += [event.outcome for event in batch]
    return _told(event_id, outcomes)


async def discard(request: Request, form: Form) -> Response:
    """Take it off the lists; a reason is required."""
    event_id: UUID = request.path_params["event_id"]
    reason = given_reason(form)
    outcomes: list[str] = []
    async with writing_store(request.app.state.settings) as connection:
        who = f"{request.state.visitor.name}, console"
        async for batch in discarding.discard(connection, Selection(ids=(event_id,)), reason=reason, who=who):
            outcomes += [event.outcome for event in batch]
    return _told(event_id, outcomes)


def _told(event_id: UUID, outcomes: Sequence[str]) -> Response:
    if not outcomes:
        raise HTTPException(404, f"There is no event {event_id}.")
    return RedirectResponse(f"/events/{event_id}?said={outcomes[0]}", 303)


def _refusal(event: EventDetail) -> str | None:
    """What to do about a delivery in quarantine: its timeline begins with the cause."""
    cause = next((step.detail for step in event.timeline if step.step == "quarantined"), None)
    return advice.about_refusal(cause) if cause and event.state == "quarantined" else None


def _said(request: Request) -> tuple[bool, str] | None:
    """Whether what was asked for was done, and the sentence."""
    said = request.query_params.get("said")
    for outcome, sentence in _EXPLANATIONS.items():
        if outcome == said:
            return outcome in _DONE, f"It {sentence}."
    return None
