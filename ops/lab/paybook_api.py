"""Paybook's API (Sync, also called Syncfy): the envelope, both ways of authentication, lists by limit and skip."""

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ops.lab.gate import FAULT
from ops.lab.paybook_webhooks import Webhooks
from ops.lab.paybook_world import Credential, PaybookWorld
from ops.lab.seeded import hexadecimal


_SESSION_IDLE_SECONDS = 300.0  # a session ends after five minutes without a call (providers.md 3.2)
_LIMIT_UNLESS_ASKED = 100
_SENTENCES = {401: "Unauthorized", 404: "Not found", 429: "Too many requests"}


class Caller(NamedTuple):
    """Who calls: the account, its world, the user on whose behalf (empty: all users), and by session or key."""

    account: str
    world: PaybookWorld
    user: str
    session: bool


Handler = Callable[[Request, Caller], Awaitable[Response]]


class PaybookApi:
    """``keys`` maps an API key to its account, the world that it opens and the webhooks registered with it."""

    provider = "paybook"

    def __init__(self, keys: Mapping[str, tuple[str, PaybookWorld, Webhooks]]) -> None:
        self._keys = {key.encode(): found for key, found in keys.items()}
        self._sessions: dict[str, tuple[Caller, float]] = {}
        self._answers = 0

        def route(path: str, handler: Handler, *, methods: tuple[str, ...] = ("GET",), key_only: bool = False) -> Route:
            return Route(path, self._authenticated(handler, key_only=key_only), methods=list(methods))

        lists = [
            entry
            for what in ("accounts", "transactions", "attachments")
            for entry in (route(f"/v1/{what}/count", self._count), route(f"/v1/{what}", self._list))
        ]
        self.app = Starlette(
            routes=[
                route("/v1/sessions", self._open_session, methods=("POST",), key_only=True),
                route("/v1/credentials", self._credentials),
                route("/v1/credentials/{id}", self._credential),
                *lists,
                route("/v1/attachments/export", self._list),
                route("/v1/attachments/{id}", self._attachment),
                route("/v1/attachments/{id}/extra", self._parsed_attachment),
                route("/v1/attachments/{id}/json", self._parsed_attachment),
                route("/v1/webhooks", self._webhooks, methods=("GET", "POST"), key_only=True),
                route("/v1/webhooks/{id}", self._webhook, methods=("DELETE",), key_only=True),
            ],
            exception_handlers={404: self._not_found, 405: self._not_found},
        )

    def account_of(self, headers: Headers) -> str:
        """The account of the ``Authorization`` header."""
        caller = self._caller(headers)
        return caller.account if caller else ""

    def template(self, path: str) -> str:
        """Five a second over everything (providers.md 3.4)."""
        del path
        return ""

    def error(self, status: int, sentence: str) -> Response:
        """The envelope of an error: ``code`` repeats the HTTP status, ``response`` is null."""
        return self._envelope(b"null", status, _SENTENCES.get(status, sentence))

    # ── authentication ────────────────────────────────────────────────────────────────────────────────────────────

    def _authenticated(self, handler: Handler, *, key_only: bool) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            caller = self._caller(request.headers)
            # Users, sessions and webhooks take the API key only (providers.md 3.2).
            if caller is None or (key_only and caller.session):
                return self.error(401, "Unauthorized")
            return await handler(request, caller)

        return endpoint

    def _caller(self, headers: Headers) -> Caller | None:
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        fields = {
            name.strip().lower(): value.strip()
            for name, equals, value in (part.partition("=") for part in rest.split(","))
            if equals
        }
        match scheme.lower():
            case "api_key":
                shown = fields.get("api_key", "").encode("latin-1")
                for key, (account, world, _) in self._keys.items():
                    if hmac.compare_digest(key, shown):
                        return Caller(account, world, fields.get("id_user", ""), session=False)
            case "bearer":
                return self._session(rest.strip())
            case "token":
                return self._session(fields.get("token", ""))
        return None

    def _session(self, token: str) -> Caller | None:
        now = time.monotonic()
        caller, used = self._sessions.get(token, (None, 0.0))
        if caller is None or now - used > _SESSION_IDLE_SECONDS:
            self._sessions.pop(token, None)
            return None
        self._sessions[token] = (caller, now)
        return caller

    async def _open_session(self, request: Request, caller: Caller) -> Response:
        body = await _json_object(request)
        user = str(body.get("id_user") or "")
        if not user:
            return self.error(400, "id_user is missing")
        self._answers += 1
        token = hexadecimal("session", caller.account, user, self._answers, digits=32)
        self._sessions[token] = (caller._replace(user=user, session=True), time.monotonic())
        return self._envelope(orjson.dumps({"token": token}))

    # ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _credentials(self, request: Request, caller: Caller) -> Response:
        del request
        found = [
            caller.world.credential(name)
            for name, credential in caller.world.credentials.items()
            if caller.user in {"", credential.ids.user}
        ]
        return self._envelope(orjson.dumps(found))

    async def _credential(self, request: Request, caller: Caller) -> Response:
        name = request.path_params["id"]
        if self._visible(caller, name) is None:
            return self.error(404, "Not found")
        # By id, too, it is a list: the vendor's sample iterates it (providers.md 3.3).
        return self._envelope(orjson.dumps([caller.world.credential(name)]))

    async def _list(self, request: Request, caller: Caller) -> Response:
        what = request.url.path.split("/")[2]
        query = request.query_params
        try:
            limit, skip = int(query.get("limit", _LIMIT_UNLESS_ASKED)), int(query.get("skip", 0))
            span = int(query.get("dt_refresh_from", 0)), int(query.get("dt_refresh_to", 2**40))
        except ValueError:
            return self.error(400, "limit, skip and dt_refresh are whole numbers")
        credential = self._visible(caller, query.get("id_credential", ""))
        if credential is None or limit < 0 or skip < 0:
            return self.error(400, "id_credential is missing or unknown, or limit or skip is negative")
        skip = _skip_as_played(request, caller.world.count(what, credential), skip, limit)
        chosen = caller.world.refreshed(credential, *span) if what == "transactions" else None
        if chosen is None:
            page = caller.world.page(what, credential, skip, limit)
        else:
            page = b",".join(caller.world.row(what, credential, index) for index in chosen[skip : skip + limit])
        if what == "attachments" and caller.world.attachments_raw and request.url.path.endswith("/export"):
            head = {"Content-Disposition": 'attachment; filename="attachments.xml"'}
            return Response(
                b"<attachments><![CDATA[" + page + b"]]></attachments>", media_type="text/xml", headers=head
            )
        return self._envelope(b"".join((b"[", page, b"]")))

    async def _count(self, request: Request, caller: Caller) -> Response:
        credential = self._visible(caller, request.query_params.get("id_credential", ""))
        if credential is None:
            return self.error(400, "id_credential is missing or unknown")
        count = caller.world.count(request.url.path.split("/")[2], credential)
        return self._envelope(orjson.dumps({"count": count}))

    async def _attachment(self, request: Request, caller: Caller) -> Response:
        which = request.path_params["id"]
        if caller.world.thing("attachment", which) is None:
            return self.error(404, "Not found")
        head = {"Content-Disposition": f'attachment; filename="{which}.xml"'}
        return Response(f"<cfdi id='{which}'/>".encode(), media_type="text/xml", headers=head)

    async def _parsed_attachment(self, request: Request, caller: Caller) -> Response:
        found = caller.world.thing("attachment", request.path_params["id"])
        return self.error(404, "Not found") if found is None else self._envelope(found)

    def _visible(self, caller: Caller, name: str) -> Credential | None:
        credential = caller.world.credentials.get(name)
        return credential if credential and caller.user in {"", credential.ids.user} else None

    # ── registered webhooks ───────────────────────────────────────────────────────────────────────────────────────

    async def _webhooks(self, request: Request, caller: Caller) -> Response:
        webhooks = self._webhooks_of(caller)
        if request.method == "GET":
            return self._envelope(orjson.dumps(webhooks.listed()))
        body = await _json_object(request)
        if not body.get("url") or not isinstance(body.get("events"), list) or not body["events"]:
            return self.error(400, "url and events are needed")
        return self._envelope(orjson.dumps(webhooks.create(body)))

    async def _webhook(self, request: Request, caller: Caller) -> Response:
        gone = self._webhooks_of(caller).delete(request.path_params["id"])
        return self._envelope(b"true") if gone else self.error(404, "Not found")

    def _webhooks_of(self, caller: Caller) -> Webhooks:
        return next(webhooks for account, _, webhooks in self._keys.values() if account == caller.account)

    # ── the envelope ──────────────────────────────────────────────────────────────────────────────────────────────

    def _envelope(self, response: bytes, status: int = 200, message: str | None = None) -> Response:
        self._answers += 1
        rid = hexadecimal("rid", self._answers, digits=32)
        head = {"rid": rid, "code": status, "errors": None, "status": message is None, "message": message}
        body = b"".join((orjson.dumps(head)[:-1], b',"response":', response, b"}"))
        return Response(body, status, media_type="application/json", headers={"Request-ID": rid})

    async def _not_found(self, request: Request, _: Exception) -> Response:
        return self.error(404, f"There is no {request.url.path}")


def _skip_as_played(request: Request, total: int, skip: int, limit: int) -> int:
    """Paging faults: rows that came in at the front move every page by one; an endless chain never has a short page."""
    match request.scope.get(FAULT):
        case "page-shift":
            return max(0, skip - 1)
        case "endless-pages":
            return max(0, min(skip, total - limit))
    return skip


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        value = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
