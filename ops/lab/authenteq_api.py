"""Authenteq's API: the export of a verification as JSON (providers.md 4.3)."""

import base64
import binascii
import hmac
from collections.abc import Mapping

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.lab.authenteq_world import AuthenteqWorld


_CODES = {401: "API_KEYS_INVALID", 403: "ACCOUNT_DEACTIVATED", 404: "VERIFICATION_NOT_FOUND", 429: "TOO_MANY_REQUESTS"}


class AuthenteqApi:
    """The API of api.app.authenteq.com: ``keys`` maps ``client_id:client_secret`` to the world that it opens."""

    provider = "authenteq"

    def __init__(self, keys: Mapping[str, tuple[str, AuthenteqWorld]]) -> None:
        self._keys = {key.encode(): found for key, found in keys.items()}
        self.app = Starlette(
            routes=[Route("/export/verification-result-as-json", self._export)],
            exception_handlers={404: self._not_found},
        )

    def account_of(self, headers: Headers) -> str:
        """The account of the Basic credentials."""
        found = self._found(headers)
        return found[0] if found else ""

    def template(self, path: str) -> str:
        """Authenteq publishes no limit: everything counts together."""
        del path
        return ""

    def error(self, status: int, sentence: str) -> Response:
        """``{"errorCode": ..., "errorMessage": ...}``, with the code that is known for the status."""
        return self._error(status, _CODES.get(status, "INTERNAL_ERROR"), sentence)

    def _error(self, status: int, code: str, sentence: str) -> Response:
        body = orjson.dumps({"errorCode": code, "errorMessage": sentence})
        return Response(body, status, media_type="application/json")

    def _found(self, headers: Headers) -> tuple[str, AuthenteqWorld] | None:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            shown = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return None
        return next((found for key, found in self._keys.items() if hmac.compare_digest(key, shown)), None)

    async def _export(self, request: Request) -> Response:
        if "authorization" not in request.headers:
            return self._error(401, "API_KEYS_MISSING", "Send your client id and secret as Basic authentication")
        if (found := self._found(request.headers)) is None:
            return self.error(401, "The client id or secret is wrong")
        which = request.query_params.get("verificationId")
        if not which:
            return self._error(400, "MISSING_REQUEST_PARAMETER", "verificationId is missing")
        value = found[1].exported(which)
        if value is None:
            return self.error(404, "There is no such verification")
        return Response(orjson.dumps(value), media_type="application/json")

    async def _not_found(self, request: Request, _: Exception) -> Response:
        return self.error(404, f"There is no {request.url.path}")
