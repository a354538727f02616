"""Events: a list, newest first, filtered, a page at a time."""

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ops.console.rendering import page
from shared.providers.registry import PROVIDERS
from shared.store.reading.connecting import reading
from shared.store.reading.events import head_of
from shared.store.reading.searching import Search, search_events
from shared.store.schema import EVENT_STATES


PER_PAGE: Final = 50
FILTERS: Final = ("provider", "account", "state", "type", "since", "until", "entity", "words")
LONGEST: Final = 200
DISCARDED: Final = "discarded"
"""Asks for what operators have set aside; it is no state, those events are failed or parked still."""


class Unclear(Exception):
    """A filter says nothing that can be looked for; the sentence names it."""


async def show(request: Request) -> Response:
    """Whoever looks for the id of an event is sent to its page."""
    given = {name: text for name in FILTERS if (text := request.query_params.get(name, "").strip())}
    context: dict[str, Any] = {
        "events": [],
        "chosen": given,
        "listed_states": (*EVENT_STATES, DISCARDED),
        "older": None,
        "newest": None,
        "problem": None,
    }
    try:
        search = search_of(given, request.query_params.get("before"))
    except Unclear as error:
        return page(request, "events.html", {**context, "problem": str(error)}, status=400)
    async with reading(request.app.state.engine) as connection:
        wanted = _uuid(search.entity)
        if wanted is not None and await head_of(connection, wanted) is not None:
            return RedirectResponse(f"/events/{wanted}", 303)
        # one more than is shown says whether there is a next page
        found = await search_events(connection, search, limit=PER_PAGE + 1)
    shown = found[:PER_PAGE]
    if len(found) > PER_PAGE:
        context["older"] = f"?{urlencode({**given, 'before': str(shown[-1].id)})}"
    if search.before is not None:
        context["newest"] = f"?{urlencode(given)}"
    return page(request, "events.html", {**context, "events": shown})


def search_of(given: dict[str, str], before: str | None) -> Search:
    """The filters of an address. Raises Unclear; HTTPException for a page that is none."""
    for name, text in given.items():
        if len(text) > LONGEST or not text.isprintable():
            raise Unclear(f"{name}: at most {LONGEST} letters, without control characters.")
    if (provider := given.get("provider")) not in {None, *PROVIDERS}:
        raise Unclear(f"There is no provider {provider}; known are {', '.join(PROVIDERS)}.")
    if (state := given.get("state")) not in {None, DISCARDED, *EVENT_STATES}:
        raise Unclear(f"There is no state {state}; known are {', '.join(EVENT_STATES)} and {DISCARDED}.")
    try:
        place = UUID(before) if before else None
    except ValueError:
        raise HTTPException(400, "That is no page of this list.") from None
    return Search(
        provider=provider,
        account=given.get("account"),
        state=None if state == DISCARDED else state,
        type=given.get("type"),
        since=_moment("since", given.get("since")),
        until=_moment("until", given.get("until")),
        entity=given.get("entity"),
        words=given.get("words"),
        before=place,
        discarded=state == DISCARDED,
    )


def _moment(name: str, text: str | None) -> datetime | None:
    """A time as ISO 8601 writes it, UTC where it names no zone. Raises Unclear."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unclear(f"{name}: write a time such as 2026-05-01T12:30, in UTC.") from None


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
