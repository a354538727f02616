"""Magicline's Open API, as far as webhooks lead into it (providers.md 2.2, 2.4)."""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.lab.gate import FAULT
from ops.lab.magicline_things import ZONE
from ops.lab.magicline_world import OK, MagiclineWorld
from ops.lab.seeded import hexadecimal


_CODES = {401: "unauthorized", 403: "forbidden", 404: "entity.not.found", 429: "rate.limit.exceeded"}
_LONGEST_SPAN = timedelta(days=365)
Handler = Callable[[Request, MagiclineWorld], Awaitable[Response]]


class Refused(Exception):
    """The call is answered with an error."""

    def __init__(self, status: int, sentence: str, reference: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.reference = reference


class MagiclineApi:
    """One API for all studios: ``keys`` maps a studio's API key to its name and world."""

    provider = "magicline"

    def __init__(self, keys: Mapping[str, tuple[str, MagiclineWorld]]) -> None:
        self._keys = {key.encode(): found for key, found in keys.items()}
        self._worlds = [world for _, world in self._keys.values()]
        self._errors = 0
        reads: dict[str, Handler] = {
            "/v1/customers": self._customers,
            "/v1/customers/additional-information-fields": self._of_studio("additional-fields"),
            "/v1/customers/{id:int}": self._customer,
            "/v1/customers/{id:int}/contracts": self._contracts,
            "/v1/customers/{id:int}/activities/checkins": self._checkins,
            "/v1/cross-studio/customers/{id:int}": self._cross_studio_customer,
            "/v1/communications/{id:int}/communication-preferences": self._by_id("communication-preferences"),
            "/v1/memberships/{contract:int}/self-service/idle-periods/{id:int}": self._by_id("idle-period"),
            "/v1/memberships/{contract:int}/self-service/additional-module-contracts/{id:int}": self._by_id(
                "module-contract"
            ),
            "/v1/appointments/booking": self._bookings("appointment-booking"),
            "/v1/classes/booking": self._bookings("class-booking"),
            "/v1/appointments/booking/{id:int}": self._by_id("appointment-booking"),
            "/v1/classes/booking/{id:int}": self._by_id("class-booking"),
            "/v1/classes/{class:int}/slots/{id:int}": self._class_slot,
            "/v1/devices": self._devices,
            "/v1/employees/{id:int}": self._by_id("employee"),
            "/v1/studios/information": self._of_studio("studio"),
            "/v1/debt-collection/configuration": self._of_studio("debt-collection-configuration"),
            "/v1/debt-collection/cases": self._cases,
            "/v1/debt-collection/{id:int}/details": self._by_id("debt-collection-run"),
            "/v1/debt-collection/{id:int}/debtors": self._debtors,
            "/v1/taxadvisor/exports/{id:int}": self._by_id("tax-export"),
        }
        self.app = Starlette(
            routes=[
                *(Route(path, self._authenticated(handler), methods=["GET"]) for path, handler in reads.items()),
                # HEAD on any endpoint only checks the key (providers.md 2.1).
                Route("/{path:path}", self._anything_else, methods=["HEAD", "GET"]),
            ]
        )

    def account_of(self, headers: Headers) -> str:
        """The studio of the ``x-api-key`` header."""
        found = self._found(headers)
        return found[0] if found else ""

    def template(self, path: str) -> str:
        """The endpoint with its ids left open: limits count per endpoint (providers.md 2.2)."""
        return re.sub(r"(?<=/)[0-9]+(?=/|$)", "{id}", path)

    def error(self, status: int, sentence: str) -> Response:
        """The one error body of all endpoints."""
        return self._error(Refused(status, sentence))

    def _error(self, refused: Refused) -> Response:
        self._errors += 1
        body = {
            "errorMessage": refused.sentence,
            "errorCode": _CODES.get(refused.status, "internal.error"),
            "traceId": hexadecimal("trace", self._errors, digits=16),
            "reference": refused.reference,
            "args": [],
            "typedArgs": [],
        }
        return Response(orjson.dumps(body), refused.status, media_type="application/json")

    def _found(self, headers: Headers) -> tuple[str, MagiclineWorld] | None:
        shown = headers.get("x-api-key", "").encode("latin-1")
        return next((found for key, found in self._keys.items() if hmac.compare_digest(key, shown)), None)

    def _authenticated(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if (found := self._found(request.headers)) is None:
                return self.error(401, "The API key is missing or invalid")
            if request.method == "HEAD":
                return Response()
            try:
                return await handler(request, found[1])
            except Refused as refused:
                return self._error(refused)

        return endpoint

    async def _anything_else(self, request: Request) -> Response:
        if self._found(request.headers) is None:
            return self.error(401, "The API key is missing or invalid")
        return Response() if request.method == "HEAD" else self.error(404, f"There is no {request.url.path}")

    # ── one thing ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _by_id(self, kind: str) -> Handler:
        async def read(request: Request, world: MagiclineWorld) -> Response:
            return _told(world.thing(kind, str(request.path_params["id"])), kind)

        return read

    def _of_studio(self, kind: str) -> Handler:
        async def read(_: Request, world: MagiclineWorld) -> Response:
            return _told(world.thing(kind, str(world.studio.id)), kind)

        return read

    async def _customer(self, request: Request, world: MagiclineWorld) -> Response:
        which = _reachable_customer(request, world)
        return _told(world.thing("customer", str(which)), "customer")

    async def _cross_studio_customer(self, request: Request, world: MagiclineWorld) -> Response:
        which = request.path_params["id"]
        ordered = [world, *(other for other in self._worlds if other is not world)]
        return _told(next(filter(None, (each.thing("customer", str(which)) for each in ordered)), None), "customer")

    async def _class_slot(self, request: Request, world: MagiclineWorld) -> Response:
        slot = world.get("class-slot", request.path_params["id"])
        if slot is None or slot["classInformation"]["id"] != request.path_params["class"]:
            raise Refused(404, "Class slot not found", "classSlotId")
        return _json(slot)

    # ── bare arrays ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _contracts(self, request: Request, world: MagiclineWorld) -> Response:
        which = _reachable_customer(request, world)
        wanted = request.query_params.get("status")
        return _json([item for item in world.contracts(which) if wanted in {None, item["contractStatus"]}])

    async def _devices(self, _: Request, world: MagiclineWorld) -> Response:
        return _json(world.devices())

    async def _cases(self, request: Request, world: MagiclineWorld) -> Response:
        which = _whole(request, "caseAdjustmentRequestId", 0)
        case = world.get("debt-collection-case", which) if which else None
        return _json([case] if case else [])

    # ── slices ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _checkins(self, request: Request, world: MagiclineWorld) -> Response:
        which = _reachable_customer(request, world)
        now = world.now().astimezone(ZONE)  # days are the studio's, an hour or two ahead of UTC
        try:
            first = world.local_date(request.query_params.get("fromDate") or (now - timedelta(days=31)).isoformat())
            last = world.local_date(request.query_params.get("toDate") or now.isoformat()) + timedelta(days=1)
        except ValueError:
            raise Refused(400, "fromDate and toDate are dates", "fromDate") from None
        if first > last or last - first > _LONGEST_SPAN + timedelta(days=1):
            raise Refused(400, "The span must not be longer than 365 days", "fromDate")
        return _slice(request, world.checkins(which, first, last), largest=50, usual=10, id_field="checkinId")

    async def _debtors(self, request: Request, world: MagiclineWorld) -> Response:
        return _slice(request, world.debtors(request.path_params["id"]), largest=50, usual=10)

    async def _customers(self, request: Request, world: MagiclineWorld) -> Response:
        return _slice(request, world.customers(), smallest=50, largest=500, usual=100, id_field="id")

    def _bookings(self, kind: str) -> Handler:
        """A customer's bookings as a bare list (vendor: getappointmentbookings, getclassbookingsbycustomerid)."""

        async def handler(request: Request, world: MagiclineWorld) -> Response:
            customer = _whole(request, "customerId", 0)
            if not customer:
                raise Refused(400, "customerId is missing", "customerId")
            if world.reachable(customer) != OK:
                raise Refused(404, "Customer not found", "customerId")
            return _json(world.bookings(kind, customer))

        return handler


def _reachable_customer(request: Request, world: MagiclineWorld) -> int:
    which: int = request.path_params["id"]
    match world.reachable(which):
        case 403:
            raise Refused(403, "The customer's data may no longer be requested", "customerId")
        case 404:
            raise Refused(404, "Customer not found", "customerId")
    return which


def _slice(
    request: Request, items: Sequence[Any], *, largest: int, usual: int, smallest: int = 1, id_field: str = ""
) -> Response:
    """One slice; ``offset`` is the last id on some endpoints and a row count on others (providers.md 2.2)."""
    size = _whole(request, "sliceSize", usual)
    if not smallest <= size <= largest:
        raise Refused(400, f"sliceSize must be between {smallest} and {largest}", "sliceSize")
    offset = request.query_params.get("offset", "")
    start = 0
    if offset and id_field:
        start = next((place + 1 for place, item in enumerate(items) if str(item[id_field]) == offset), len(items))
    elif offset:
        start = _whole(request, "offset", 0)
    fault = request.scope.get(FAULT)
    if fault == "page-shift":
        start = max(0, start - 1)
    if fault == "endless-pages" and start >= len(items):
        start = 0
    result = items[start : start + size]
    end = start + len(result)
    following = str(result[-1][id_field]) if id_field and result else str(end)
    more = end < len(items) or fault == "endless-pages"
    return _json({"result": result, "offset": following, "hasNext": more})


def _whole(request: Request, name: str, usual: int) -> int:
    text = request.query_params.get(name, "")
    if text and not text.isdecimal():
        raise Refused(400, f"{name} must be a whole number", name)
    return int(text) if text else usual


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def _told(value: bytes | None, kind: str) -> Response:
    if value is None:
        raise Refused(404, f"{kind.replace('-', ' ').capitalize()} not found", "id")
    return Response(value, media_type="application/json")
