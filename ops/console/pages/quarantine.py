"""Quarantine: refused deliveries with a named cause, and letting in what a mended key proves."""

from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ingress.releasing import NotInQuarantine, Outcome, Selection, release
from ops import advice
from ops.cli.store import opening_keys, writing_store
from ops.console.forms import Form
from ops.console.rendering import page
from shared.errors import SettingsError
from shared.providers.registry import PROVIDERS
from shared.store import quarantine


if TYPE_CHECKING:
    from uuid import UUID

    from shared.settings import Settings
    from shared.watching import ConfigurationWatch

_SHOWN: Final = 200
_MOST_DIGITS: Final = 6


async def show(request: Request) -> Response:
    """What is held, newest first, and how many there are by provider and cause."""
    given = {name: text for name in ("provider", "cause") if (text := request.query_params.get(name, "").strip())}
    async with writing_store(request.app.state.settings) as connection:
        held = await quarantine.held(connection)
    # there are at most some thousands
    groups = Counter((each.provider, each.cause) for each in held)
    causes = sorted({cause for _, cause in groups})
    problem = None
    if given.get("provider") not in {None, *PROVIDERS}:
        problem = f"There is no provider {given['provider']}; known are {', '.join(PROVIDERS)}."
    elif given.get("cause") not in {None, *causes}:
        problem = f"Nothing is held for the cause {given['cause']}."
    found = [
        each
        for each in held
        if given.get("provider") in {None, each.provider} and given.get("cause") in {None, each.cause}
    ]
    context = {
        "groups": [
            (provider, cause, number, advice.about_refusal(cause)) for (provider, cause), number in groups.most_common()
        ],
        "causes": causes,
        "held": [] if problem else found[:_SHOWN],
        "more": max(0, len(found) - _SHOWN),
        "chosen": given,
        "problem": problem,
        "released": _figure(request, "released"),
        "refused": _figure(request, "refused"),
        "hours": quarantine.KEPT_HOURS,
    }
    return page(request, "quarantine.html", context, status=400 if problem else 200)


async def release_all(request: Request, form: Form) -> Response:
    """Authenticate everything of a provider once more, and let in what passes."""
    provider = form.get("provider", "")
    if provider not in PROVIDERS:
        raise HTTPException(400, f"There is no provider {provider[:64]}; known are {', '.join(PROVIDERS)}.")
    outcomes = await _release(request, form, Selection(provider=provider))
    released = sum(outcome.released for outcome in outcomes)
    said = urlencode({"released": released, "refused": len(outcomes) - released})
    return RedirectResponse(f"/quarantine?{said}", 303)


async def release_one(request: Request, form: Form) -> Response:
    """Authenticate this one once more; its page says what became of it."""
    event_id: UUID = request.path_params["event_id"]
    try:
        (outcome,) = await _release(request, form, Selection((event_id,)))
    except NotInQuarantine:
        raise HTTPException(404, f"There is no delivery {event_id} in quarantine (any more).") from None
    return RedirectResponse(f"/events/{event_id}?said={'released' if outcome.released else 'not-released'}", 303)


async def _release(request: Request, form: Form, selection: Selection) -> list[Outcome]:
    settings: Settings = request.app.state.settings
    watch: ConfigurationWatch = request.app.state.watch
    reason = form.get("reason", "").strip()[:200] or "no reason given"
    try:
        keys = (await opening_keys(settings))()
    except SettingsError as error:
        raise HTTPException(409, f"A delivery in quarantine is sealed, and this console has no key: {error}.") from None
    outcomes: list[Outcome] = []
    async with writing_store(settings) as connection:
        async for batch in release(
            connection,
            selection,
            PROVIDERS,
            watch.current,
            keys,
            note=f"{reason} (by {request.state.visitor.name}, console)",
        ):
            outcomes += batch
    return outcomes


def _figure(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None
