"""Failed and parked: grouped by reason, with what to do; retrying a whole group, with a look before and while."""

from collections.abc import Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ops import advice
from ops.console.forms import Form
from ops.console.rendering import page
from ops.console.retrying import Retries, TooMany
from shared.providers.registry import PROVIDERS
from shared.store.reading.connecting import reading
from shared.store.reading.dead_letters import dead_letters
from shared.store.reading.searching import Group, search_group
from shared.store.reading.shapes import DeadLetters
from shared.store.selecting import Selection


_STATES: Final = ("failed", "parked")
_PREVIEWED: Final = 20


async def show(request: Request) -> Response:
    """Every group, the largest first."""
    async with reading(request.app.state.engine) as connection:
        groups = await dead_letters(connection)
    ordered = sorted(groups, key=lambda group: -group.count)
    told = {group.reason: advice.about_event(group.reason) for group in ordered}
    return page(request, "attention.html", {"groups": ordered, "advice": told})


async def preview(request: Request) -> Response:
    """What a retry would touch; nothing has happened yet."""
    query = request.query_params
    return await _preview(request, Group(query.get("provider", ""), query.get("reason", "")), None)


async def start(request: Request, form: Form) -> Response:
    """Begin, and go to its progress."""
    group = Group(form.get("provider", ""), form.get("reason", ""))
    counted = await _counted(request, group)
    retries: Retries = request.app.state.retries
    note = form.get("note", "").strip()[:200] or "retried in bulk"
    try:
        retry = retries.start(
            _selections(group),
            what=f"{group.provider}, {group.reason}",
            total=counted.count,
            who=request.state.visitor.name,
            note=f"{note} (by {request.state.visitor.name}, console)",
        )
    except TooMany as error:
        return await _preview(request, group, str(error))
    return RedirectResponse(f"/attention/retries/{retry.number}", 303)


async def progress(request: Request) -> Response:
    """How far a retry has come."""
    retry = request.app.state.retries.get(request.path_params["number"])
    if retry is None:
        raise HTTPException(404, "That retry is not known here: it ended long ago, or the console began anew since.")
    return page(request, "retry.html", {"retry": retry})


async def _preview(request: Request, group: Group, problem: str | None) -> Response:
    counted = await _counted(request, group)
    async with reading(request.app.state.engine) as connection:
        first = await search_group(connection, group, limit=_PREVIEWED)
    context = {"group": counted, "events": first, "advice": advice.about_event(group.reason), "problem": problem}
    return page(request, "attention_retry.html", context, status=409 if problem else 200)


async def _counted(request: Request, group: Group) -> DeadLetters:
    if group.provider not in PROVIDERS:
        raise HTTPException(404, "There is no such provider.")
    async with reading(request.app.state.engine) as connection:
        groups = await dead_letters(connection, group.provider)
    for found in groups:
        if found.reason == group.reason:
            return found
    raise HTTPException(404, "No event of this provider waits for a person for that reason (any more).")


def _selections(group: Group) -> Sequence[Selection]:
    return [Selection(provider=group.provider, state=state, error=group.reason) for state in _STATES]
