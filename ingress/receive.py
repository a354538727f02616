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

from ingress.body import MEMORY_BYTES, BodyReader, SenderGone
from ingress.incoming import IncomingFile
from ingress.protocol import LINGER_SECONDS, WHOLE_BODY
from ingress.refusals import (
    AccountsAbsent,
    NoAccount,
    Refusal,
    TooManyFailures,
    WrongMethod,
    WrongSignature,
    refusal_of,
)
from ingress.routes import Route, Routes
from ingress.telling import BoundedLog
from shared.blob_keys import body_key
from shared.errors import Cause, NotAuthentic, PenstockError, StoreAway
from shared.providers.interface import Admission, Inbound, Unverified
from shared.quarantine import Refused
from shared.store.inbox import NewEvent


if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from ingress.addresses import TrustedProxies
    from ingress.failures import FailedAttempts
    from ingress.metrics import IngressMetrics
    from shared.blobs import BlobStore
    from shared.tracing import Tracing

ANSWER_SECONDS: Final = 3.5
"""Providers give up at 5 s; the answer is due 4 s after the last byte. This is for all stores together."""

_END: Final = {"type": "http.response.body", "body": b""}
_NO_LENGTH: Final = frozenset({204})
_OF_ANOTHER_ACCOUNT: Final[frozenset[Cause]] = frozenset({"unknown-key", "wrong-client-id"})


class Keeper(Protocol):
    """Keeps an event for good, wherever that is possible now: what ``ingress.keeping.Keeping`` does."""

    async def keep(self, event: NewEvent) -> NewEvent:
        """Return once the event is as durable as the returned one says. Raises StoreAway."""


class RefusedDeliveries(Protocol):
    """Keeps refused deliveries for a while: what ``ingress.quarantine.Quarantine`` does."""

    def has_room(self, source: str) -> bool:
        """Whether more of this sender is kept."""

    def offer(self, refused: Refused) -> None:
        """Take it if there is room; never blocks."""


class Reception:
    """Receives deliveries."""

    def __init__(
        self,
        *,
        routes: Routes,
        bodies: BodyReader,
        blobs: "BlobStore",
        keeper: Keeper,
        metrics: "IngressMetrics",
        proxies: "TrustedProxies",
        failures: "FailedAttempts",
        quarantine: RefusedDeliveries,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._routes = routes
        self._bodies = bodies
        self._blobs = blobs
        self._keeper = keeper
        self._metrics = metrics
        self._proxies = proxies
        self._failures = failures
        self._quarantine = quarantine
        self._tracing = tracing
        self._log = structlog.get_logger("penstock.ingress")
        self._told = BoundedLog()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request under ``/webhooks/``."""
        began = time.perf_counter()
        provider = ""
        try:
            route = self._routes.find(scope["raw_path"])
            provider = route.provider
            inbound = self._inbound_of(route, scope["method"])
            arrived = WHOLE_BODY in scope.get("extensions", ())
            event = await self._receive(route, inbound, scope["headers"], receive, arrived=arrived)
        except SenderGone:
            self._told.info("the sender went away before its body was there", provider=provider)
        except NotAuthentic as error:
            await self._refuse_unproven(error, route, scope, receive, send)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here, the sender gets an answer
            refusal = refusal_of(error)
            self._note(refusal, provider, error)
            await refuse(refusal, scope, receive, send)
        else:
            await send(_acknowledgement(inbound.success_status, event))
            await send(_END)
            seconds = time.perf_counter() - began
            self._metrics.kept(provider, inbound.success_status, event.durability, seconds)
            if self._tracing:
                _trace(self._tracing, event, inbound.success_status, seconds)

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
        admission = self._authenticate(route, inbound, Unverified(headers, route.token))
        event_id = uuid7()
        head = read_head(headers, inbound.secret_headers)
        of = (route.provider, admission.account)
        body = await self._bodies.read(
            receive, head.length, inbound, admission.body_check, event_id, account=of, arrived=arrived
        )
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
        except Exception:
            # For the line that tells of it; a request that succeeds pays nothing.
            structlog.contextvars.bind_contextvars(account=admission.account, event_id=str(event_id))
            raise
        finally:
            if body.file:
                body.file.discard_soon()
        return event

    def _inbound_of(self, route: Route, method: str) -> Inbound:
        if method != "POST":
            raise WrongMethod("not POST")
        if route.inbound is not None:
            return route.inbound
        if self._routes.in_doubt(route.provider):
            raise AccountsAbsent(f"{route.provider} has no account here, and was not seen to have none")
        raise NoAccount(f"{route.provider} has no account")

    def _authenticate(self, route: Route, inbound: Inbound, request: Unverified) -> Admission:
        try:
            return inbound.authenticate(request)
        except NotAuthentic as error:
            # It may be the key of an account whose settings have vanished: for many senders 401 is final.
            if error.cause in _OF_ANOTHER_ACCOUNT and self._routes.in_doubt(route.provider):
                raise AccountsAbsent(f"nobody's key, while accounts of {route.provider} are not known here") from None
            raise

    async def _keep_large(self, event: NewEvent, file: IncomingFile) -> NewEvent:
        """The blob first, complete and on disk, then the row that refers to it."""
        blob = body_key(f"{event.received_at:%Y-%m-%d}", event.provider, event.account, event.id)
        event = event._replace(blob=blob)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._blobs.put_file(blob, file.path)
                event = await self._keeper.keep(event)
        except TimeoutError:
            raise StoreAway("the stores did not take the body in time") from None
        return event

    async def _refuse_unproven(
        self, error: NotAuthentic, route: Route, scope: "Scope", receive: "Receive", send: "Send"
    ) -> None:
        """401, or 429 to a sender that fails too often; what is kept of it is offered once the answer is on its way."""
        headers = scope["headers"]
        source = self._proxies.source((scope["client"] or ("",))[0], headers)
        wait = self._failures.count(source)
        refusal = refusal_of(TooManyFailures(wait) if wait else error)
        self._note(refusal, route.provider, error)
        wanted = not wait and self._quarantine.has_room(source)
        body = await refuse(refusal, scope, receive, send, keep_bytes=MEMORY_BYTES if wanted else 0)
        if isinstance(error, WrongSignature):
            body = error.body
        if wanted and body is not None:
            self._quarantine.offer(
                Refused(
                    id=uuid7(),
                    provider=route.provider,
                    received_at=datetime.now(UTC),
                    source=source,
                    cause=error.cause,
                    headers=headers,
                    token=route.token,
                    body=body,
                )
            )

    def _note(self, refusal: Refusal, provider: str, error: Exception) -> None:
        self._metrics.refused(provider, refusal.status)
        if isinstance(error, PenstockError):
            self._told.info("refused", provider=provider, status=refusal.status, error=refusal.slug, reason=str(error))
        else:
            self._log.error("a fault while receiving", provider=provider, exc_info=error)


async def refuse(
    refusal: Refusal, scope: "Scope", receive: "Receive", send: "Send", *, keep_bytes: int = 0
) -> bytes | None:
    """Send a refusal. If a body may still be coming, the answer goes first and the connection ends after it.

    Returns the body, unless it is longer than ``keep_bytes`` or does not end while its rest is thrown away.
    """
    if not _has_body(scope["headers"]):
        await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
        await send({"type": "http.response.body", "body": refusal.body})
        return b""
    headers = (*refusal.headers, (b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body, "more_body": True})
    body = bytearray()
    whole = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            more = True
            while more:
                message = await receive()
                more = message.get("more_body", False)
                whole = message["type"] == "http.request" and not more
                if len(body) <= keep_bytes:
                    body += message.get("body", b"")
    await send(_END)
    return bytes(body) if whole and len(body) <= keep_bytes else None


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


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0) for name, value in headers
    )


def _trace(tracing: "Tracing", event: NewEvent, status: int, seconds: float) -> None:
    about: dict[str, str | int] = {
        "http.route": f"/webhooks/{event.provider}",
        "http.response.status_code": status,
        "penstock.provider": event.provider,
        "penstock.account": event.account,
        "penstock.durability": event.durability,
    }
    sender = next((value for name, value in event.headers if name == "traceparent"), None)
    tracing.received(event.id, about, seconds, sender)


def _acknowledgement(status: int, event: NewEvent) -> dict[str, object]:
    headers = [(b"x-penstock-event", str(event.id).encode()), (b"x-penstock-durability", event.durability.encode())]
    if status not in _NO_LENGTH:
        headers.append((b"content-length", b"0"))
    return {"type": "http.response.start", "status": status, "headers": headers}
