"""What every call passes before a provider's own API sees it: the ledger, the latency, the faults and the limits."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ops.lab.calls import Call, Calls
from ops.lab.faults import Fault, Faults
from ops.lab.limits import Limits


HANG_UP = "penstock.lab.transport"
"""Where a request's scope holds its connection, so that a fault can cut it."""
FAULT = "penstock.lab.fault"
"""Where a request's scope holds the paging fault that the API itself has to play."""
_PLAYED_BY_API = frozenset({"endless-pages", "page-shift"})
_BAD_BODIES = {
    "not-json": b"<!doctype html><title>Bad gateway</title>",
    "wrong-type": b'"maintenance"',
    "wrong-shape": b'{"unexpected": [1, 2, 3]}',
}


class Api(Protocol):
    """One provider's API."""

    provider: str
    app: Starlette

    def account_of(self, headers: Headers) -> str:
        """The account whose key the request shows; empty when it is nobody's."""

    def template(self, path: str) -> str:
        """The endpoint that a path belongs to: the unit in which calls are counted."""

    def error(self, status: int, sentence: str) -> Response:
        """An error in the provider's own shape."""


class CuttableProtocol(HttpToolsProtocol):
    """HTTP as usual, and the application can get at the connection to cut it."""

    def on_message_begin(self) -> None:
        """Put the connection into the request's scope."""
        super().on_message_begin()
        self.scope["extensions"] = {HANG_UP: {"transport": self.transport}}


@dataclass(slots=True)
class Behaviour:
    """How the lab behaves towards its callers; one for all providers, changed through the control API."""

    calls: Calls
    faults: Faults
    limits: Limits
    latency: dict[str, float] = field(default_factory=dict)
    """Seconds that each call takes, by provider; ``""`` is the default for all."""


class Gate:
    """The ASGI application of one provider's port."""

    def __init__(self, api: Api, behaviour: Behaviour) -> None:
        self._api = api
        self._behaviour = behaviour

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and enter it in the ledger, whatever becomes of it."""
        if scope["type"] != "http":
            return
        behaviour, provider = self._behaviour, self._api.provider
        path = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
        account = self._api.account_of(Headers(scope=scope))
        number, at, began = behaviour.calls.begin(provider), time.time(), time.perf_counter()
        status, outcome = 0, "cut"
        try:
            status, outcome = await self._answer(scope, receive, send, path, account)
        finally:
            ms = round((time.perf_counter() - began) * 1000, 3)
            behaviour.calls.end(Call(number, provider, account, scope["method"], path, status, outcome, at, ms))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, path: str, account: str) -> tuple[int, str]:
        behaviour, provider = self._behaviour, self._api.provider
        if delay := behaviour.latency.get(provider, behaviour.latency.get("", 0.0)):
            await asyncio.sleep(delay)
        if not behaviour.limits.admits(provider, account, self._api.template(scope["path"])):
            await self._api.error(429, "Too many requests")(scope, receive, send)
            return 429, "limited"
        fault = behaviour.faults.decide(provider, scope["method"], path)
        if fault is None:
            return await self._plain(scope, receive, send)
        if fault.seconds:
            await asyncio.sleep(fault.seconds)
        return await self._faulty(fault, scope, receive, send), fault.kind

    async def _plain(self, scope: Scope, receive: Receive, send: Send) -> tuple[int, str]:
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._api.app(scope, receive, note)
        return status, "ok" if status < 400 else "refused"  # noqa: PLR2004 - where HTTP's errors begin

    async def _faulty(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> int:
        match fault.kind:
            case "slow":
                return (await self._plain(scope, receive, send))[0]
            case "drop":
                await self._hang_up(scope)
                return 0
            case "truncate":
                return await self._truncate(scope, receive, send)
            case "status":
                answer = self._api.error(fault.status, "The lab was told to fail")
                if fault.retry_after is not None:
                    answer.headers["Retry-After"] = fault.retry_after
                await answer(scope, receive, send)
                return fault.status
            case kind if kind in _PLAYED_BY_API:
                return (await self._plain({**scope, FAULT: kind}, receive, send))[0]
            case kind:
                await Response(_BAD_BODIES[kind], media_type="application/json")(scope, receive, send)
                return 200

    async def _truncate(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Send the right head with the right length, half the body, and hang up."""
        messages: list[Message] = []

        async def hold(message: Message) -> None:
            messages.append(message)

        await self._api.app(scope, receive, hold)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        await send(messages[0])
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        _transport(scope).close()
        await asyncio.sleep(0)
        return int(messages[0]["status"])

    async def _hang_up(self, scope: Scope) -> None:
        _transport(scope).abort()
        # The server notices a turn of the loop later; returning before that would make it answer 500 into the void.
        await asyncio.sleep(0.001)


def _transport(scope: Scope) -> Any:
    return scope["extensions"][HANG_UP]["transport"]
