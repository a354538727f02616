"""Paybook's API: which URLs it has for us, credentials, the limit, the envelope, and the webhook registrations.

All of it is pure: requests are values that somebody else sends.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from shared.errors import BrokenAnswer, PenstockError, RefusedAnswer, Unreadable
from shared.providers.interface import Call, Limit, Login, Probe, Refusal
from shared.providers.json_text import parse
from shared.providers.paybook.settings import PaybookAccount


LIMIT: Final = Limit(scope="account", calls=5, seconds=1.0, penalty_seconds=1.0)
"""5 requests a second "by server"; no Retry-After was ever seen [Paybook/sync-code-samples, postman/sync.json]."""

PROBE: Final = Probe("GET", "/v1/webhooks", limit=LIMIT)
"""The seed's own example of a read."""

REGISTERED_EVENTS: Final = ("credential_create", "credential_update", "refresh")
"""What a webhook is registered for unless told otherwise: the seed's three events."""

_UNAUTHORIZED: Final = 401
_LONGEST_SENTENCE: Final = 200
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]+")
_SAFE_TOKEN = re.compile(r"[!-~]+")


# ── where the key may go ──────────────────────────────────────────────────────────────────────────────────────────

# The account's key is sent to whatever this lets through. Percent signs are refused in the path altogether: ids need
# none, and an encoded slash or dot would be another path to another server. The query is what RFC 3986 allows there,
# and brackets.
_TRUSTED_URL = re.compile(
    r"/v1(?:/(?!\.{1,2}(?:[/?]|\Z))[A-Za-z0-9._~-]+)+"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*)?"
)
_LONGEST_URL = 2000


def trusted_url(url: str) -> str:
    """A URL of ``endpoints``, if it is a plain relative one below ``/v1/``. Raises Unreadable (``untrusted-url``)."""
    if len(url) > _LONGEST_URL or not _TRUSTED_URL.fullmatch(url):
        raise Unreadable("untrusted-url", "a URL of endpoints is not a plain path below /v1/; nothing is called")
    return url


# ── credentials ───────────────────────────────────────────────────────────────────────────────────────────────────


def credentials(call: Call, account: PaybookAccount) -> dict[str, str]:
    """The key for our reads: on behalf of the event's user, unless the account says otherwise or no user is known."""
    id_user = call.context.get("id_user") if account.auth == "api_key_user" else None
    return _authorization(account, f",id_user={id_user}" if id_user else "")


def user_gone(status: int, said: str) -> Refusal | None:
    """What a 401 means that says "Invalid user": one user was removed at Paybook, the key is good [observed].

    None for any other.
    """
    if status != _UNAUTHORIZED or "invalid user" not in said.lower():
        return None
    detail = "Paybook does not know the event's user any more, or not under this key; the API key itself is not refused"
    return Refusal("one", "user-gone", detail)


def _authorization(account: PaybookAccount, user: str = "") -> dict[str, str]:
    return {"Authorization": f"api_key api_key={account.api_key.get_secret_value()}{user}"}


# ── the envelope ──────────────────────────────────────────────────────────────────────────────────────────────────


class _Envelope(msgspec.Struct):
    code: Any = None
    status: Any = None
    message: Any = None
    response: msgspec.Raw = msgspec.Raw(b"null")


def open_envelope(body: bytes) -> msgspec.Raw:
    """What is in ``{"rid","code","errors","status","message","response"}``, as the bytes that were sent.

    Raises RefusedAnswer with the envelope's own ``code``, and BrokenAnswer for what is no envelope or contradicts
    itself (a ``code`` of success beside ``status: false``).
    """
    envelope = parse(body, _Envelope)
    code = envelope.code
    if type(code) is not int or not 100 <= code <= 599:  # noqa: PLR2004 - the range of HTTP statuses
        raise BrokenAnswer("the envelope's code is not an HTTP status")
    if code // 100 != 2:  # noqa: PLR2004 - the class of HTTP statuses that mean success
        raise RefusedAnswer(code, f"the envelope says {code}: {_sentence(envelope.message)}")
    if envelope.status is not True:
        raise BrokenAnswer(f"the envelope says {code} but its status is not true: {_sentence(envelope.message)}")
    return envelope.response


def listed_rows(body: bytes) -> bytes:
    """The rows in an envelope as a JSON list; one thing (a credential by its id may come so) is a list of one.

    Raises BrokenAnswer or RefusedAnswer.
    """
    response = bytes(open_envelope(body))
    return response if response.startswith(b"[") else b"[" + response + b"]"


def _sentence(message: Any) -> str:
    text = message if isinstance(message, str) and message else "no message"
    if len(text) > _LONGEST_SENTENCE:
        # not in the middle of a word: half a key would not be known for one where keys are taken out
        text = re.sub(r"[^ ,=:]*\Z", "...", text[:_LONGEST_SENTENCE], count=1)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# ── registered webhooks, for the commands ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request that is not a follow-up: ``path`` at the account's ``base_url``, ``body`` JSON or empty."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


class Registration(msgspec.Struct, frozen=True):
    """A webhook as Paybook knows it; ``ct_failed`` counts failed deliveries, ``is_disabled`` is 1 after too many."""

    id_webhook: str
    url: str
    events: tuple[str, ...] = ()
    id_user: str | None = None
    delay: int | None = None
    is_disabled: int | bool | None = None
    ct_failed: int | None = None
    # ISO 8601 in lists, unix seconds in the answer to POST.
    dt_created: str | int | None = None
    dt_modified: str | int | None = None


def list_webhooks(account: PaybookAccount) -> ApiRequest:
    """Ask for the registrations of the API key."""
    return ApiRequest("GET", "/v1/webhooks", _authorization(account))


def create_webhook(
    account: PaybookAccount, url: str, events: Sequence[str] = REGISTERED_EVENTS, delay: int = 0
) -> ApiRequest:
    """Register ``url``, ``delay`` seconds after each event, with the account's ``webhook_header`` if it has one."""
    body: dict[str, Any] = {"url": url, "events": list(events)}
    if delay:
        body["delay"] = delay
    if header := account.webhook_header:
        body["headers"] = {header.name: header.value.get_secret_value()}
    return _post("/v1/webhooks", account, body)


def delete_webhook(account: PaybookAccount, id_webhook: str) -> ApiRequest:
    """Remove a registration. Raises PenstockError for what cannot be an id."""
    if not _SAFE_ID.fullmatch(id_webhook):
        raise PenstockError("a webhook id has letters, digits, - and _ only; penstock paybook webhooks list shows them")
    return ApiRequest("DELETE", f"/v1/webhooks/{id_webhook}", _authorization(account))


def registrations(body: bytes) -> list[Registration]:
    """The registrations in an answer to GET (a list) or POST (one). Raises BrokenAnswer or RefusedAnswer."""
    return parse(listed_rows(body), list[Registration])


# ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Session(msgspec.Struct):
    token: str


SESSION_IDLE_SECONDS: Final = 300.0
"""A session ends after five minutes without a call [Paybook/sync-code-samples, postman/sync.json]."""


def login(call: Call, account: PaybookAccount) -> Login | None:
    """The session of the event's user, where the account's calls need one and the event names a user."""
    id_user = call.context.get("id_user")
    if account.auth != "session" or not id_user:
        return None
    request = _post("/v1/sessions", account, {"id_user": id_user})
    return Login(id_user, request.path, request.headers, request.body, SESSION_IDLE_SECONDS)


def session_credentials(body: bytes) -> dict[str, str]:
    """The headers of calls in the session that this answer opened. Raises BrokenAnswer or RefusedAnswer."""
    token = parse(bytes(open_envelope(body)), _Session).token
    if not _SAFE_TOKEN.fullmatch(token):
        raise BrokenAnswer("the session's token is empty or cannot stand in a header")
    return {"Authorization": f"Bearer {token}"}


def _post(path: str, account: PaybookAccount, body: Mapping[str, Any]) -> ApiRequest:
    headers = {**_authorization(account), "Content-Type": "application/json"}
    return ApiRequest("POST", path, headers, msgspec.json.encode(body))
