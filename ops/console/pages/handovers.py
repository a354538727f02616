"""Hand-overs: how each handler stands, what it was told, and sending again or discarding what it did not take."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ops import advice
from ops.cli.store import writing_store
from ops.console.forms import Form, given_reason
from ops.console.rendering import page
from shared.store.handovers import discarding, replaying
from shared.store.handovers.selecting import Selection
from shared.store.reading.connecting import reading
from shared.store.reading.handlers import handler_standings
from shared.store.reading.handovers import Filters, list_handovers
from shared.store.schema import HANDOVER_STATES


_SHOWN: Final = 100
_EXPLANATIONS: Final[dict[str, str]] = {
    **{str(outcome): text for outcome, text in replaying.EXPLANATIONS.items()},
    **{str(outcome): text for outcome, text in discarding.EXPLANATIONS.items()},
}


async def show(request: Request) -> Response:
    """The handlers, and the newest hand-overs that the filters let through."""
    query = request.query_params
    given = {name: text for name in ("handler", "state") if (text := query.get(name, "").strip())}
    handler, state = given.get("handler"), given.get("state")
    async with reading(request.app.state.engine) as connection:
        standings = await handler_standings(connection)
        problem = None
        if handler is not None and handler not in {standing.name for standing in standings}:
            problem = "There is no handler of that name."
        elif state is not None and state not in HANDOVER_STATES:
            problem = f"There is no such state; known are {', '.join(HANDOVER_STATES)}."
        found = []
        if problem is None:
            batches = list_handovers(connection, Filters(handler=handler, state=state), limit=_SHOWN)
            found = [handover async for batch in batches for handover in batch]
    told = {
        each.id: advice.about_handover(each.state, each.error.reason if each.error else None, each.handler)
        for each in found
    }
    context = {
        "standings": standings,
        "handovers": found,
        "advice": told,
        "handover_states": HANDOVER_STATES,
        "chosen": given,
        "problem": problem,
        "said": _EXPLANATIONS.get(query.get("said", "")),
    }
    return page(request, "handovers.html", context, status=400 if problem else 200)


async def retry(request: Request, form: Form) -> Response:
    """Send one again under the id that it always had."""
    note = f"retried (by {request.state.visitor.name}, console)"
    outcomes: list[str] = []
    async with writing_store(request.app.state.settings) as connection:
        async for batch in replaying.replay(connection, Selection(ids=(_id(form),)), note=note):
            outcomes += [handover.outcome for handover in batch]
    return _told(outcomes)


async def discard(request: Request, form: Form) -> Response:
    """The handler does not get it; a reason is required."""
    note = f"{given_reason(form)} (by {request.state.visitor.name}, console)"
    outcomes: list[str] = []
    async with writing_store(request.app.state.settings) as connection:
        async for batch in discarding.discard(connection, Selection(ids=(_id(form),)), note=note):
            outcomes += [handover.outcome for handover in batch]
    return _told(outcomes)


def _told(outcomes: list[str]) -> Response:
    if not outcomes:
        raise HTTPException(404, "There is no such hand-over.")
    return RedirectResponse(f"/handovers?said={outcomes[0]}", 303)


def _id(form: Form) -> int:
    text = form.get("id", "")
    if not text.isdecimal() or len(text) > 18:  # noqa: PLR2004 - the digits that a bigint always takes
        raise HTTPException(404, "There is no such hand-over.")
    return int(text)
