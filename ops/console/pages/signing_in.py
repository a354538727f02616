"""Signing in and out."""

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ops.console.forms import Form
from ops.console.rendering import page
from ops.console.sessions import begun


if TYPE_CHECKING:
    from ops.console.attempts import Attempts
    from ops.console.visitors import Visitors


_LONGEST: Final = 1024
"""Longer passwords are refused before they are hashed."""


async def show(request: Request) -> Response:
    """The form; whoever is signed in goes on."""
    if request.state.visitor is not None:
        return RedirectResponse(_own(request.query_params.get("next")), 303)
    return page(request, "sign_in.html", {"problem": None, "name": "", "next": _own(request.query_params.get("next"))})


async def sign_in(request: Request, form: Form) -> Response:
    """A new session for who knows the password; a pause for who tries too often."""
    attempts: Attempts = request.app.state.attempts
    visitors: Visitors = request.app.state.visitors
    name, password, onward = form.get("name", "").strip(), form.get("password", ""), _own(form.get("next"))
    keys = (f"address {request.state.address}", f"name {name[:64]}")
    if wait := attempts.wait_seconds(*keys):
        problem = f"Too many attempts failed. Try again in {int(wait) + 1} seconds."
        return _again(request, problem, name, onward, 429, {"Retry-After": str(int(wait) + 1)})
    # noted before it is known: attempts side by side do not slip through while a hash is reckoned
    attempts.failed(*keys)
    async with request.app.state.hashing:
        stamp = None
        if len(password) <= _LONGEST:
            stamp = await asyncio.to_thread(visitors.stamp, name, password)
    log = structlog.get_logger("penstock.console")
    if stamp is None:
        log.warning("somebody failed to sign in", user=name[:64], address=request.state.address)
        return _again(request, "Name and password do not match.", name, onward, 401)
    attempts.succeeded(*keys)
    log.info("signed in", user=name, address=request.state.address)
    request.scope["state"]["session"] = begun(name, stamp)
    return RedirectResponse(onward, 303)


async def sign_out(request: Request, form: Form) -> Response:
    """A session of nobody."""
    del form
    request.scope["state"]["session"] = begun()
    return RedirectResponse("/sign-in", 303)


def _again(
    request: Request, problem: str, name: str, onward: str, status: int, headers: dict[str, str] | None = None
) -> Response:
    context = {"problem": problem, "name": name, "next": onward}
    return page(request, "sign_in.html", context, status=status, headers=headers)


def _own(address: str | None) -> str:
    """A page of the console, whatever was asked for."""
    parts = urlsplit((address or "/").replace("\\", "/"))
    if parts.scheme or parts.netloc or not parts.path.startswith("/") or parts.path.startswith(("//", "/sign-in")):
        return "/"
    return parts.path + (f"?{parts.query}" if parts.query else "")
