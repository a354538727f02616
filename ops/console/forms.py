"""What changes something: a form of the console's own, sent by somebody who may."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


Form: TypeAlias = Mapping[str, str]
Handler: TypeAlias = Callable[[Request, Form], Awaitable[Response]]

_LARGEST: Final = 64 * 1024
_MOST_FIELDS: Final = 50
_LONGEST_REASON: Final = 200


def posting(path: str, handler: Handler, *, name: str | None = None, open_to_all: bool = False) -> Route:
    """The route of a form. It is refused unless its own page sent it and, but for signing in, by an operator."""

    async def endpoint(request: Request) -> Response:
        _refuse_other_sites(request)
        if not open_to_all:
            refuse_viewers(request)
        return await handler(request, await _form(request))

    return Route(path, endpoint, methods=["POST"], name=name or handler.__name__)


def refuse_viewers(request: Request) -> None:
    """Raise 403 for whoever may only look."""
    visitor = request.state.visitor
    if visitor is None or not visitor.may_act:
        raise HTTPException(403, "This needs the role operator; you may only look.")


def given_reason(form: Form, field: str = "reason") -> str:
    """What was typed as the reason for something that needs one. Raises 400."""
    if not (reason := form.get(field, "").strip()[:_LONGEST_REASON]):
        raise HTTPException(400, "Say why it is discarded: whoever looks for it later will want to know.")
    return reason


def _refuse_other_sites(request: Request) -> None:
    """A browser says where a form comes from; the word in the form is the second lock, for those that do not."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    elsewhere = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if site not in {"same-origin", "none"} or elsewhere:
        raise HTTPException(403, "This form was sent from another site.")


async def _form(request: Request) -> Form:
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _LARGEST:
        raise HTTPException(413, "That is larger than any form of the console.")
    form = await request.form(max_files=0, max_fields=_MOST_FIELDS)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    if not hmac.compare_digest(fields.get("csrf", "").encode(), request.state.session.csrf.encode()):
        raise HTTPException(403, "This form is out of date: go back, load its page again and send it once more.")
    return fields
