"""The control API, on a port of its own: look at what the lab has seen, and change how it behaves and what it holds."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.lab.deliveries import body_of, signed
from ops.lab.faults import faults_from
from ops.lab.gate import Behaviour
from ops.lab.happening import LabError, unknown_thing
from ops.lab.limits import PUBLISHED, limit_from
from ops.lab.sender import Sender
from ops.lab.world import World


Endpoint = Callable[[Request], Awaitable[Response]]


class Control:
    """``app`` serves the routes below; every error is a 400 or 404 with ``{"error": sentence}``.

    | route | what |
    | --- | --- |
    | GET /ports | provider and port |
    | GET /calls?provider=&path=&after=&limit= | every API call seen, counts per path and outcome |
    | GET, POST /faults | the rules; POST replaces them (a list or one), ``[]`` ends all |
    | GET, POST /limits | ``{"magicline": {"calls": 0, ...} or null for the published one, ...}`` |
    | POST /latency | ``{"paybook": 0.2, "": 0.01}`` seconds |
    | GET, POST /world/PROVIDER/KIND/ID?account= | the state the API holds; POST changes fields, ``{"gone": true}`` |
    | POST /happen | ``{"provider", "event", "account", "options"}``: change the world, answer the signed delivery |
    | POST /send | the same and ``count``, ``rate``, ``duplicate``: the lab delivers; answers the ledger's entries. \
``withhold`` of them, spread evenly, happen without being delivered |
    | GET /ledger?provider=&after=&limit= | every delivery sent, with its attempts |
    | POST /sender | ``{"ingress", "clock_speed"}`` |
    | POST /paybook/refresh-size | ``{"transactions", "attachments", "limit", "credential"}``; without one: all |
    | POST /paybook/attachments | ``{"raw": true}``: the export answers a file |
    | POST /reset | forget calls, ledger, faults, latency, limits (the world stays) |
    """

    def __init__(self, world: World, behaviour: Behaviour, sender: Sender, ports: Mapping[str, int]) -> None:
        self._ports = ports
        self._world = world
        self._behaviour = behaviour
        self._sender = sender
        routes: dict[str, tuple[Endpoint, tuple[str, ...]]] = {
            "/ports": (self._ports_shown, ("GET",)),
            "/calls": (self._calls, ("GET",)),
            "/faults": (self._faults, ("GET", "POST")),
            "/limits": (self._limits, ("GET", "POST")),
            "/latency": (self._latency, ("POST",)),
            "/world/{provider}/{kind}/{id:path}": (self._thing, ("GET", "POST")),
            "/happen": (self._happen, ("POST",)),
            "/send": (self._send, ("POST",)),
            "/ledger": (self._ledger, ("GET",)),
            "/sender": (self._set_sender, ("POST",)),
            "/paybook/refresh-size": (self._refresh_size, ("POST",)),
            "/paybook/attachments": (self._attachments, ("POST",)),
            "/reset": (self._reset, ("POST",)),
        }
        self.app = Starlette(
            routes=[Route(path, endpoint, methods=list(methods)) for path, (endpoint, methods) in routes.items()],
            exception_handlers={LabError: _refused},
        )

    async def _ports_shown(self, _: Request) -> Response:
        return _json(dict(self._ports))

    async def _calls(self, request: Request) -> Response:
        query = request.query_params
        after, limit = _whole(request, "after", 0), _whole(request, "limit", 10_000)
        return _json(self._behaviour.calls.report(query.get("provider", ""), query.get("path", ""), after, limit))

    async def _faults(self, request: Request) -> Response:
        if request.method == "POST":
            self._behaviour.faults.set(faults_from(await _body(request)))
        return _json(self._behaviour.faults.shown())

    async def _limits(self, request: Request) -> Response:
        if request.method == "POST":
            for provider, values in (await _object(request)).items():
                self._behaviour.limits.set(provider, limit_from(values))
        return _json(self._behaviour.limits.shown())

    async def _latency(self, request: Request) -> Response:
        self._behaviour.latency = {name: float(seconds) for name, seconds in (await _object(request)).items()}
        return _json(self._behaviour.latency)

    async def _thing(self, request: Request) -> Response:
        provider, kind, which = (request.path_params[name] for name in ("provider", "kind", "id"))
        account = self._world.account(provider, request.query_params.get("account", "")).name
        part = self._world.part(provider, account)
        if (provider, kind) == ("paybook", "webhook"):
            hooks = self._world.webhooks[account]
            return _json(hooks.change(which, await _object(request) if request.method == "POST" else {}))
        if request.method == "POST":
            changes = await _object(request)
            part.change(kind, which, changes)
            return _json({}) if changes.get("gone") else Response(part.thing(kind, which), media_type=_JSON)
        value = part.thing(kind, which)
        return Response(value, media_type=_JSON) if value is not None else _error(404, str(unknown_thing(kind, which)))

    async def _happen(self, request: Request) -> Response:
        asked = await _object(request)
        provider, account = str(asked.get("provider", "")), str(asked.get("account", ""))
        happening = self._world.happen(provider, str(asked.get("event", "")), account, asked.get("options") or {})
        body, content_type = body_of(happening)
        delivery = signed(self._world.account(provider, happening.account), body, content_type)
        told = {
            "event": happening.event,
            "identity": happening.identity,
            "account": happening.account,
            "path": delivery.path,
            "headers": delivery.headers,
            "content_type": content_type,
            "body_base64": base64.b64encode(body).decode(),
        }
        return _json(told)

    async def _send(self, request: Request) -> Response:
        asked = await _object(request)
        provider, account = str(asked.get("provider", "")), str(asked.get("account", ""))
        keys = self._world.account(provider, account)
        rate, most = float(asked.get("rate") or 0), asyncio.Semaphore(50)
        count, withhold = int(asked.get("count", 1)), int(asked.get("withhold") or 0)

        async def one(position: int) -> list[dict[str, Any]]:
            if rate:
                await asyncio.sleep(position / rate)
            async with most:
                event, options = str(asked.get("event", "")), asked.get("options") or {}
                happening = self._world.happen(provider, event, keys.name, options)
                again = [True] if asked.get("duplicate") else []
                if _is_withheld(position, count, withhold):
                    return [msgspec.to_builtins(self._sender.withhold(keys, happening))]
                sent = [await self._sender.send(keys, happening, duplicate=each) for each in (False, *again)]
                return [msgspec.to_builtins(each) for each in sent]

        answers = await asyncio.gather(*(one(position) for position in range(count)))
        return _json([entry for entries in answers for entry in entries])

    async def _ledger(self, request: Request) -> Response:
        provider = request.query_params.get("provider", "")
        after, limit = _whole(request, "after", 0), _whole(request, "limit", 10_000)
        return _json(self._sender.ledger(provider, after, limit))

    async def _set_sender(self, request: Request) -> Response:
        asked = await _object(request)
        self._sender.ingress = str(asked.get("ingress", self._sender.ingress)).rstrip("/")
        self._sender.clock_speed = float(asked.get("clock_speed", self._sender.clock_speed))
        return _json({"ingress": self._sender.ingress, "clock_speed": self._sender.clock_speed})

    async def _refresh_size(self, request: Request) -> Response:
        asked = await _object(request)
        world = self._world.paybook[self._world.account("paybook", str(asked.get("account", ""))).name]
        sizes = {name: int(asked[name]) for name in ("limit", "transactions", "attachments") if name in asked}
        world.size.limit = max(1, sizes.pop("limit", world.size.limit))
        world.resize(str(asked.get("credential", "")), **sizes)
        return _json(
            {"transactions": world.size.transactions, "limit": world.size.limit, "credentials": [*world.credentials]}
        )

    async def _attachments(self, request: Request) -> Response:
        raw = bool((await _object(request)).get("raw"))
        for world in self._world.paybook.values():
            world.attachments_raw = raw
        return _json({"raw": raw})

    async def _reset(self, _: Request) -> Response:
        self._behaviour.calls.clear()
        self._behaviour.faults.set([])
        self._behaviour.latency = {}
        for provider in {*PUBLISHED, *self._behaviour.limits.shown()}:
            self._behaviour.limits.set(provider, None)
        self._sender.clear()
        return _json({})


_JSON = "application/json"


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type=_JSON)


def _error(status: int, sentence: str) -> Response:
    return Response(orjson.dumps({"error": sentence}), status, media_type=_JSON)


async def _refused(_: Request, error: Exception) -> Response:
    return _error(400, str(error))


async def _body(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise LabError(f"the body is not JSON: {error}") from None


async def _object(request: Request) -> dict[str, Any]:
    value = await _body(request)
    if not isinstance(value, dict):
        raise LabError("the body must be a JSON object")
    return value


def _whole(request: Request, name: str, usual: int) -> int:
    text = request.query_params.get(name, "")
    if text and not text.isdecimal():
        raise LabError(f"{name} must be a whole number")
    return int(text) if text else usual


def _is_withheld(position: int, count: int, withhold: int) -> bool:
    """Whether this one is among those that are not delivered, which are spread evenly over all."""
    return position * withhold // count != (position + 1) * withhold // count
