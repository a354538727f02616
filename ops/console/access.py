"""Who may see the console: whoever knows the password, or without one only this machine itself."""

import hmac
import ipaddress
from base64 import b64decode
from binascii import Error as NotBase64
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.providers.account import is_loopback


USER: Final = "penstock"

_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

# Pages hold what comes from outside: nothing in them runs, loads or is framed but the console's own files.
_PROTECTION: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Access:
    """Lets authorised requests through to ``app`` and sets protective headers on every answer."""

    def __init__(self, app: ASGIApp, *, password: SecretStr | None) -> None:
        self._app = app
        self._wanted = f"{USER}:{password.get_secret_value()}".encode() if password else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in _PROTECTION.items()]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}  # type: ignore[misc]
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_protected)  # type: ignore[arg-type]

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._wanted is not None:
            if hmac.compare_digest(_presented(headers.get("authorization", "")), self._wanted):
                return None
            return PlainTextResponse(
                "The console asks for its password (user penstock).\n",
                status_code=401,
                headers={"WWW-Authenticate": 'Basic realm="Penstock", charset="UTF-8"'},
            )
        if _is_this_machine(scope, headers):
            return None
        return PlainTextResponse(
            "Without a password the console serves this machine alone: set PENSTOCK_CONSOLE_PASSWORD.\n",
            status_code=403,
        )


def _presented(authorization: str) -> bytes:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(encoded, validate=True)
    except (NotBase64, ValueError):
        return b""


def _is_this_machine(scope: Scope, headers: Headers) -> bool:
    """A loopback client that also named a loopback host.

    The host counts because a page from elsewhere may point its own name at 127.0.0.1 (DNS rebinding); a request that a
    proxy passed on comes from somebody else, whatever address the proxy has.
    """
    client = scope.get("client")
    if client is None or any(name in headers for name in _FORWARDED):
        return False
    try:
        near = ipaddress.ip_address(client[0]).is_loopback
        named = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:
        return False
    return near and is_loopback(named or "")
