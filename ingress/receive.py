"""The one endpoint for all providers: who sent it, is it whole, keep it, acknowledge it. Nothing is parsed.

It is a plain ASGI callable: a request object would cost as much as the rest of the work.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog
from uuid_utils.compat import uuid7

from ingress.body import BodyReader, SenderGone
from ingress.incoming import IncomingFile
from ingress.protocol import WHOLE_BODY
from ingress.refusals import NoAccount, Refusal, WrongMethod, refusal_of
from ingress.routes import Route, Routes
from shared.errors import PenstockError, StoreAway
from shared.providers.interface import Inbound, Unverified
from shared.store.inbox import NewEvent


if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ingress.metrics import IngressMetrics
    from shared.blobs import BlobStore

ANSWER_SECONDS: Final = 3.5
"""Providers give up at 5 s; the answer is due 4 s after the last byte. This is for all stores together."""

LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused body is read and thrown away, so that its sender sees the answer, not a reset."""

_END: Final = {"type": "http.response.body", "body": b""}
_NO_LENGTH: Final = frozenset({204})


class Keeper(Protocol):
    """Keeps an event for good, wherever that is possible now: what ``ingress.keeping.Keeping`` does."""

    async def keep(self, event: NewEvent) -> NewEvent:
        """Return once the event is as durable as the returned one says. Raises StoreAway."""


class Reception:
    """Receives deliveries."""

    def __init__(
        self, *, routes: Routes, bodies: BodyReader, blobs: "BlobStore", keeper: Keeper, metrics: "IngressMetrics"
    ) -> None:
        self._routes = routes
        self._bodies = bodies
        self._blobs = blobs
        self._keeper = keeper
        self._metrics = metrics
        self._log = structlog.get_logger("penstock.ingress")

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request under ``/webhooks/``."""
        began = time.perf_counter()
        provider = ""
        try:
            route = self._routes.find(scope["raw_path"])
            provider = route.provider
            inbound = _inbound_of(route, scope["method"])
            arrived = WHOLE_BODY in scope.get("extensions", ())
            event = await self._receive(route, inbound, scope["headers"], receive, arrived=arrived)
        except SenderGone:
            self._log.info("the sender went away before its body was there", provider=provider)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here, the sender gets an answer
            refusal = refusal_of(error)
            self._note(refusal, provider, error)
            await refuse(refusal, scope, receive, send)
        else:
            await send(_acknowledgement(inbound.success_status, event))
            await send(_END)
            self._metrics.kept(provider, inbound.success_status, event.durability, time.perf_counter() - began)

    async def _receive(
        self,
        route: Route,
        inbound: Inbound,
        headers: Sequence[tuple[bytes, bytes]],
        receive: "Receive",
        *,
        arrived: bool,
    ) -> NewEvent:
        """Everything between the head of the request and its acknowledgement, in the order of the refusals."""
        admission = inbound.authenticate(Unverified(headers, route.token))
        event_id = uuid7()
        head = read_head(headers, inbound.secret_headers)
        body = await self._bodies.read(receive, head.length, inbound, admission.body_check, event_id, arrived=arrived)
        try:
            event = NewEvent(
                id=event_id,
                provider=route.provider,
                account=admission.account,
                received_at=datetime.now(UTC),
                durability="postgres",
                content_type=head.content_type,
                headers=head.kept,
                body=body.sealed,
                blob=None,
                body_bytes=body.size,
                body_sha256=body.sha256,
            )
            if body.file is None:
                event = await self._keeper.keep(event)
            else:
                event = await self._keep_large(event, body.file)
        finally:
            if body.file:
                body.file.discard_soon()
        return event

    async def _keep_large(self, event: NewEvent, file: IncomingFile) -> NewEvent:
        """The blob first, complete and on disk, then the row that refers to it."""
        blob = f"bodies/{event.received_at:%Y-%m-%d}/{event.id}"
        event = event._replace(blob=blob)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._blobs.put_file(blob, file.path)
                event = await self._keeper.keep(event)
        except TimeoutError:
            raise StoreAway("the stores did not take the body in time") from None
        return event

    def _note(self, refusal: Refusal, provider: str, error: Exception) -> None:
        self._metrics.refused(provider, refusal.status)
        if isinstance(error, PenstockError):
            self._log.info("refused", provider=provider, status=refusal.status, error=refusal.slug, reason=str(error))
        else:
            self._log.error("a fault while receiving", provider=provider, exc_info=error)


async def refuse(refusal: Refusal, scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Send a refusal. If a body may still be coming, the answer goes first and the connection ends after it."""
    if not _has_body(scope["headers"]):
        await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
        await send({"type": "http.response.body", "body": refusal.body})
        return
    headers = (*refusal.headers, (b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send(_END)


class Head(NamedTuple):
    """What ingress needs of the headers."""

    length: int
    """Content-Length, which the HTTP parser has checked to be a number; 0 when there is none."""
    content_type: str
    kept: list[tuple[str, str]]
    """In the order received, repeats kept, credentials left out; latin-1 text."""


def read_head(headers: Iterable[tuple[bytes, bytes]], secret: frozenset[bytes]) -> Head:
    """Walk through the headers once; of a repeated content type the first counts."""
    length = 0
    content_type = ""
    kept = []
    for name, value in headers:
        if name not in secret:
            text = value.decode("latin-1")
            kept.append((name.decode("latin-1"), text))
            if name == b"content-length":
                length = int(value)
            elif name == b"content-type" and not content_type:
                content_type = text
    return Head(length, content_type, kept)


def _inbound_of(route: Route, method: str) -> Inbound:
    if method != "POST":
        raise WrongMethod("not POST")
    if route.inbound is None:
        raise NoAccount(f"{route.provider} has no account")
    return route.inbound


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0) for name, value in headers
    )


def _acknowledgement(status: int, event: NewEvent) -> dict[str, object]:
    headers = [(b"x-penstock-event", str(event.id).encode()), (b"x-penstock-durability", event.durability.encode())]
    if status not in _NO_LENGTH:
        headers.append((b"content-length", b"0"))
    return {"type": "http.response.start", "status": status, "headers": headers}
