"""Records: browsing them, and one with its history."""

from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ops.console.bodies import shown
from ops.console.rendering import page
from shared.store.reading.browsing import Shelf, browse, places
from shared.store.reading.connecting import reading
from shared.store.reading.differences import differences_of
from shared.store.reading.effects import history_of, record_of


PER_PAGE: Final = 50
_FILTERS: Final = ("provider", "account", "kind", "external_id")
_LONGEST: Final = 512


async def show(request: Request) -> Response:
    """Records in the order of their keys, filtered, a page at a time."""
    given = {name: text for name in _FILTERS if (text := request.query_params.get(name, "").strip())}
    after = request.query_params.getlist("after")
    context: dict[str, Any] = {
        "records": [],
        "chosen": given,
        "next": None,
        "first": None,
        "problem": None,
        "kinds": [],
    }
    if any(len(text) > _LONGEST or not text.isprintable() for text in (*given.values(), *after)):
        problem = f"A filter has at most {_LONGEST} letters, without control characters."
        return page(request, "records.html", {**context, "problem": problem}, status=400)
    if len(after) not in {0, 4}:
        raise HTTPException(400, "That is no page of this list.")
    place = (after[0], after[1], after[2], after[3]) if after else None
    async with reading(request.app.state.engine) as connection:
        known = await places(connection)
        found = await browse(connection, Shelf(**given, after=place), known, limit=PER_PAGE + 1)
    shelf = found[:PER_PAGE]
    if len(found) > PER_PAGE:
        last = shelf[-1]
        key = [("after", part) for part in (last.provider, last.account, last.kind, last.external_id)]
        context["next"] = f"?{urlencode([*given.items(), *key])}"
    if place is not None:
        context["first"] = f"?{urlencode(given)}"
    return page(request, "records.html", {**context, "records": shelf, "kinds": sorted({kind for _, _, kind in known})})


async def one(request: Request) -> Response:
    """One record as it is now, and what changed of it when, by which event. Private members are shown as digests."""
    key = tuple(request.query_params.get(name, "") for name in _FILTERS)
    provider, account, kind, external_id = key
    if not all(key) or not all(part.isprintable() for part in key):
        raise HTTPException(400, "A record is named by provider, account, kind and external_id.")
    async with reading(request.app.state.engine) as connection:
        record = await record_of(connection, (provider, account, kind, external_id))
        history = await history_of(connection, (provider, account, kind, external_id))
        differences = await differences_of(connection, [change.id for change in history])
    if record is None:
        raise HTTPException(404, f"There is no {kind} {external_id} of {provider}, {account}.")
    context = {"record": record, "data": shown(bytes(record.data)), "history": history, "differences": differences}
    return page(request, "record.html", context)
