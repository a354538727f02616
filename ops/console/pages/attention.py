"""Failed and parked: grouped by reason, with what to do; retrying or discarding a whole group, with a look before."""

from typing import Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ops import advice
from ops.console.forms import Form, given_reason
from ops.console.pages.overview import stuck_now
from ops.console.rendering import page
from ops.console.retrying import Background, Order, TooMany
from shared.providers.registry import PROVIDERS
from shared.store.reading.connecting import reading
from shared.store.reading.dead_letters import dead_letters
from shared.store.reading.replays import list_replays, replay_of
from shared.store.reading.searching import Group, search_group, states_of_group
from shared.store.reading.shapes import DeadLetters, ReplayRun
from shared.store.replays import UnderWay
from shared.store.selecting import Selection


_PREVIEWED: Final = 20
_RECENT: Final = 10
_MOST_DIGITS: Final = 18


async def show(request: Request) -> Response:
    """Every group, the largest first, and the newest replays."""
    async with reading(request.app.state.engine) as connection:
        groups = await dead_letters(connection)
        recent = [run for run in await list_replays(connection, limit=_RECENT) if run.what == "events"]
    ordered = sorted(groups, key=lambda group: -group.count)
    told = {group.reason: advice.about_event(group.reason) for group in ordered}
    context = {
        "groups": ordered,
        "advice": told,
        "recent": [(run, asked(run)) for run in recent],
        "stuck": await stuck_now(request),
        "discarding": request.query_params.get("said") == "discarding",
    }
    return page(request, "attention.html", context)


async def preview(request: Request) -> Response:
    """What a retry would touch; nothing has happened yet."""
    query = request.query_params
    return await _preview(request, Group(query.get("provider", ""), query.get("reason", "")), None)


async def start(request: Request, form: Form) -> Response:
    """Begin, and go to its progress."""
    group = Group(form.get("provider", ""), form.get("reason", ""))
    counted = await _counted(request, group)
    background: Background = request.app.state.background
    try:
        order = await _order(request, group, form.get("note", "").strip()[:200] or "retried in bulk")
        replay_id = await background.retry(order)
    except (TooMany, UnderWay) as error:
        return await _preview(request, group, str(error))
    return RedirectResponse(f"/attention/retries/{replay_id}?{urlencode({'of': counted.count})}", 303)


async def discard(request: Request, form: Form) -> Response:
    """Set the whole group aside; a reason is required."""
    group = Group(form.get("provider", ""), form.get("reason", ""))
    reason = given_reason(form, "note")
    await _counted(request, group)
    background: Background = request.app.state.background
    try:
        background.discard(await _order(request, group, reason))
    except TooMany as error:
        return await _preview(request, group, str(error))
    return RedirectResponse("/attention?said=discarding", 303)


async def progress(request: Request) -> Response:
    """How far a retry has come."""
    replay_id: int = request.path_params["number"]
    async with reading(request.app.state.engine) as connection:
        run = await replay_of(connection, replay_id) if len(str(replay_id)) <= _MOST_DIGITS else None
    if run is None or run.what != "events":
        raise HTTPException(404, "There is no such retry.")
    of = request.query_params.get("of", "")
    background: Background = request.app.state.background
    handled = sum(run.counts.values())
    context = {
        "run": run,
        "what": asked(run),
        "handled": handled,
        "total": max(handled, int(of)) if of.isdecimal() and len(of) <= _MOST_DIGITS else None,
        "here": background.runs(replay_id),
        "problem": background.problem(replay_id),
    }
    return page(request, "retry.html", context)


def asked(run: ReplayRun) -> str:
    """What a replay was asked for, as people say it; of many ids their number."""
    said = [
        f"{name} {value}" if not isinstance(value, list) else f"{len(value):,} by id"
        for name, value in sorted(run.asked.items())
    ]
    return ", ".join(said)


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


async def _order(request: Request, group: Group, reason: str) -> Order:
    """One selection for each state that the group has events in, as an index leads through them."""
    async with reading(request.app.state.engine) as connection:
        states = await states_of_group(connection, group)
    selections = [Selection(provider=group.provider, state=state, error=group.reason) for state in states]
    return Order(selections, reason, f"{request.state.visitor.name}, console")
