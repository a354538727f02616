"""Lets through whom it may, and sets the protective headers and the session's cookie on every answer."""

from collections.abc import MutableMapping
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ops.console.sessions import COOKIE, Session, Sessions, begun, set_cookie
from ops.console.visitors import Visitors


SIGN_IN: Final = "/sign-in"
_OPEN: Final = ("/static/",)
"""Holds nothing of the installation: the console's own files, which its sign-in page needs."""

# Pages hold what comes from outside: nothing in them runs, loads or is framed but the console's own files.
_PROTECTION: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Access:
    """Puts ``session`` and ``visitor`` (None at the sign-in page) into the request's state, or refuses it."""

    def __init__(self, app: ASGIApp, *, visitors: Visitors, sessions: Sessions) -> None:
        self._app = app
        self._visitors = visitors
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 303, 401 or 403, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        known = self._sessions.open(connection.cookies.get(COOKIE))
        state = scope.setdefault("state", {})
        state["session"] = known or begun()
        state["visitor"] = visitor = self._visitors.known(scope, state["session"])
        state["sign_in_exists"] = self._visitors.sign_in_exists
        state["address"] = self._address(scope, connection)
        open_to_all = scope["path"].startswith(_OPEN) or (scope["path"] == SIGN_IN and self._visitors.sign_in_exists)
        refusal = None if visitor or open_to_all else self._refusal(scope)

        async def send_protected(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                named = {name for name, _ in message.get("headers", ())}
                extra = [(name.lower().encode(), value.encode()) for name, value in _PROTECTION.items()]
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name, value) for name, value in extra if name not in named),
                ]
                session: Session = state["session"]
                if session is not known and not scope["path"].startswith(_OPEN):
                    cookie = set_cookie(self._sessions.seal(session), secure=self._is_secure(scope, connection))
                    message["headers"].append((b"set-cookie", cookie.encode()))
            await send(message)

        await (refusal or self._app)(scope, receive, send_protected)

    def _refusal(self, scope: Scope) -> Response:
        if not self._visitors.sign_in_exists:
            return PlainTextResponse(
                "Without a user the console serves this machine alone: set PENSTOCK_CONSOLE_PASSWORD, or write"
                " [[console.users]] into penstock.toml.\n",
                status_code=403,
            )
        if scope["method"] not in {"GET", "HEAD"} or scope["path"].startswith("/api/"):
            return JSONResponse({"error": "unauthorized", "detail": "Sign in first."}, 401)
        query = scope["query_string"].decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(SIGN_IN if wanted == "/" else f"{SIGN_IN}?next={quote(wanted, safe='')}", 303)

    def _address(self, scope: Scope, connection: HTTPConnection) -> str:
        """Who tries to sign in: the connection's address, or what a trusted proxy says of it."""
        if self._visitors.from_trusted_proxy(scope) and (passed := connection.headers.get("x-forwarded-for")):
            return passed.rpartition(",")[2].strip()
        return str((scope.get("client") or ("",))[0])

    def _is_secure(self, scope: Scope, connection: HTTPConnection) -> bool:
        passed = connection.headers.get("x-forwarded-proto") if self._visitors.from_trusted_proxy(scope) else None
        return (passed or scope["scheme"]) == "https"
