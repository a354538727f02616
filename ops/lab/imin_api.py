"""imin's API: Get Customer Account and the linked accounts (providers.md 1.1, 1.3)."""

import hmac
from collections.abc import Mapping

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.lab.imin_world import IminWorld


_NAMES = {
    401: "UnauthenticatedError",
    404: "NotFoundError",
    429: "TooManyRequestsError",
    500: "InternalApplicationError",
    503: "TemporarilyUnableToProduceResponseError",
}


class IminApi:
    """The API of book.imin.co for the accounts given: ``keys`` maps an API key to the world that it opens."""

    provider = "imin"

    def __init__(self, keys: Mapping[str, tuple[str, IminWorld]]) -> None:
        self._keys = {key.encode(): found for key, found in keys.items()}
        base = "/api/v2/customer-accounts/{identifier}"
        self.app = Starlette(
            routes=[
                Route(base, self._customer),
                Route(f"{base}/linked-accounts", self._linked),
                Route("/api/v2/entitlements", self._entitlements),
            ],
            exception_handlers={404: self._not_found},
        )

    def account_of(self, headers: Headers) -> str:
        """The account of the ``X-API-KEY`` header."""
        found = self._found(headers)
        return found[0] if found else ""

    def template(self, path: str) -> str:
        """No limit is published: everything counts together."""
        del path
        return ""

    def error(self, status: int, sentence: str) -> Response:
        """No error body is documented; its cancellation endpoint follows OpenActive's, so this does (1.4)."""
        body = {
            "@context": "https://openactive.io/",
            "@type": _NAMES.get(status, "OpenBookingError"),
            "statusCode": status,
            "name": sentence,
            "description": sentence,
        }
        return Response(orjson.dumps(body), status, media_type="application/json")

    def _found(self, headers: Headers) -> tuple[str, IminWorld] | None:
        shown = headers.get("x-api-key", "").encode("latin-1")
        return next((found for key, found in self._keys.items() if hmac.compare_digest(key, shown)), None)

    async def _customer(self, request: Request) -> Response:
        if (found := self._found(request.headers)) is None:
            return self.error(401, "The API key is missing or wrong")
        return self._told(found[1].customer(request.path_params["identifier"]))

    async def _linked(self, request: Request) -> Response:
        if (found := self._found(request.headers)) is None:
            return self.error(401, "The API key is missing or wrong")
        return self._told(found[1].linked_accounts(request.path_params["identifier"]))

    async def _entitlements(self, request: Request) -> Response:
        """The broker's pre-agreed entitlements: items with a persistent ``@id`` (providers.md, 1.3)."""
        if self._found(request.headers) is None:
            return self.error(401, "The API key is missing or wrong")
        entitlement = {"@id": "https://meta.imin.co/v2/lab/entitlements#adult-resident", "prefLabel": "Adult Resident"}
        return self._told([entitlement])

    def _told(self, value: object) -> Response:
        if value is None:
            return self.error(404, "There is no such customer account")
        return Response(orjson.dumps(value), media_type="application/json")

    async def _not_found(self, request: Request, _: Exception) -> Response:
        return self.error(404, f"There is no {request.url.path}")
