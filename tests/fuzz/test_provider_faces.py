"""Every provider's pure faces under anything a sender or an API may send: an answer or one of the known errors.

PENSTOCK_FUZZ_EXAMPLES says how many examples each test tries; `make fuzz` tries more.
"""

import os
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import AnswerError, NotAuthentic, Unreadable
from shared.providers.interface import Answer, Call, Delivery, FollowUp, Provider, Unverified
from shared.providers.registry import PROVIDERS


EXAMPLES: Final = int(os.environ.get("PENSTOCK_FUZZ_EXAMPLES", "150"))
PATIENT: Final = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

_ACCOUNTS: Final[dict[str, dict[str, Any]]] = {
    "imin": {"webhook_keys": ["to-us"], "api_key": "to-them", "base_url": "https://book.imin.co"},
    "magicline": {
        "webhook_keys": ["to-us"],
        "api_key": "to-them",
        "base_url": "https://acme.open-api.magicline.com",
    },
    "paybook": {
        "webhook_tokens": ["paybook-token-0123456789"],
        "webhook_header": {"name": "X-Hook-Secret", "value": "hook-secret"},
        "api_key": "to-them",
        "base_url": "https://sync.paybook.com",
    },
    "authenteq": {"client_id": "client-1", "client_secrets": ["client-secret"]},
}

_NAMES: Final = (b"x-api-key", b"x-hook-secret", b"x-client-id", b"x-signature", b"content-type", b"x")
_VALUES: Final = (b"to-us", b"hook-secret", b"client-1", b"0" * 64, b"F" * 64, b"", b"\xff")
headers = st.lists(
    st.tuples(st.sampled_from(_NAMES), st.one_of(st.sampled_from(_VALUES), st.binary(max_size=80))), max_size=6
)

_WORDS: Final = (
    "@id", "identifier", "@type", "payload", "type", "entityId", "content", "uuid", "timestamp", "CUSTOMER_CREATED",
    "customerId", "id", "id_user", "event", "endpoints", "transactions", "refresh", "eid", "result", "status", "code",
    "response", "message", "hasNext", "offset", "agencyCollectionCases", "id_transaction", "is_deleted",
    "https://book.imin.co/api/v2/customer-accounts/1", "/v1/transactions?limit=10&skip=0",
)  # fmt: skip
_texts = st.one_of(st.sampled_from(_WORDS), st.text(max_size=20))
_plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), _texts
)
json_values = st.recursive(
    _plain,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_texts, inner, max_size=6)),
    max_leaves=30,
)
_json_bodies = json_values.map(lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
_odd_bodies = st.sampled_from(
    (
        b"",
        b"\xef\xbb\xbf{}",
        b"[" * 5_000,
        b'{"a":' * 5_000,
        b'{"@id":"\\ud800","identifier":"1"}',
        b'{"identifier":1e400}',
        b"9" * 5_000,
        b'{"a":1,"a":2}',
        b"\x00",
        "\u2028".encode(),
    )
)

_PARTS: Final = (
    b"--b\r\n",
    b"--b--\r\n",
    b"--b",
    b"\r\n",
    b"\r\n\r\n",
    b'Content-Disposition: form-data; name="result"\r\n',
    b'Content-Disposition: form-data; name="document_front_image"; filename="a.jpg"\r\n',
    b'Content-Disposition: form-data; name="selfie_image"\r\n',
    b"Content-Disposition: form-data\r\n",
    b"Content-Type: image/jpeg\r\n",
    b"Content-Type: \xff\r\n",
    b'{"id":"1","status":"success"}',
    b"\xff\xd8\xff",
)
multiparts = st.lists(st.one_of(st.sampled_from(_PARTS), st.binary(max_size=30)), max_size=12).map(b"".join)
bodies = st.one_of(_json_bodies, _odd_bodies, st.binary(max_size=300), multiparts)
content_types = st.one_of(
    st.sampled_from(
        (
            "application/json",
            "multipart/form-data; boundary=b",
            'multipart/form-data; boundary="',
            "multipart/mixed",
            "",
        )
    ),
    st.text(max_size=60),
)


def account_of(provider: Provider[Any, Any]) -> Any:
    """An account with everything that is needed."""
    return provider.account.model_validate({"name": "main", **_ACCOUNTS[provider.name]})


@pytest.fixture(params=sorted(PROVIDERS), scope="module")
def provider(request: pytest.FixtureRequest) -> Provider[Any, Any]:
    """Each provider."""
    return PROVIDERS[request.param]


@PATIENT
@given(headers=headers, token=st.one_of(st.just(b"paybook-token-0123456789"), st.binary(max_size=60)), body=bodies)
def test_authenticate_admits_or_refuses(
    provider: Provider[Any, Any], headers: list[tuple[bytes, bytes]], token: bytes, body: bytes
) -> None:
    """Nothing else is raised, and why it refuses is one of the causes."""
    inbound = provider.inbound([account_of(provider)])
    cause = None
    try:
        assert "main" == inbound.check(Unverified(headers, token), body)
    except NotAuthentic as error:
        cause = error.cause
    assert cause == inbound.cause(Unverified(headers, token), body)


@PATIENT
@given(body=bodies, content_type=content_types)
def test_read_and_plan_understand_or_park(provider: Provider[Any, Any], body: bytes, content_type: str) -> None:
    """What cannot be understood is Unreadable; a plan calls paths below the account's own origin only."""
    account = account_of(provider)
    follow_up: FollowUp[Any, Any] = provider.follow_up
    delivery = Delivery(UUID(int=7), "main", body, content_type)
    try:
        event = follow_up.read(delivery, account)
        assert all(isinstance(name, str) for name in follow_up.types(event))
        identity = follow_up.identity(event)
        assert identity is None or isinstance(identity, str)
        plan = follow_up.plan(event, delivery, account)
    except Unreadable:
        return
    for call in plan.calls:
        assert call.path.startswith("/")
        assert not call.path.startswith(("//", "/\\"))
        follow_up.limit(call, account)
        follow_up.credentials(call, account)


@PATIENT
@given(
    body=bodies,
    content_type=st.sampled_from(("application/json", "text/html", "image/png", "application/pdf", "")),
    number=st.integers(0, 1_000),
)
def test_interpret_takes_any_answer(provider: Provider[Any, Any], body: bytes, content_type: str, number: int) -> None:
    """An API's answer becomes records or one of the known errors."""
    account = account_of(provider)
    calls = _calls(provider, account)
    call = calls[number % len(calls)]
    answer = Answer(200, {"content-type": content_type} if content_type else {}, body)
    try:
        outcome = provider.follow_up.interpret(call, answer, account)
    except AnswerError:
        return
    for record in outcome.records:
        assert record.external_id
        assert record.data is None or isinstance(orjson.loads(record.data), dict)


def _calls(provider: Provider[Any, Any], account: Any) -> list[Call]:
    """The calls that reconciliation begins with, and those of a known delivery."""
    since = datetime(2026, 1, 1, tzinfo=UTC)
    found = [call for survey in provider.follow_up.surveys(account, since) for call in survey.first]
    deliveries = {
        "imin": {
            "@type": "CustomerAccount",
            "@id": "https://book.imin.co/api/v2/customer-accounts/1",
            "identifier": "1",
        },
        "paybook": {
            "id_user": "1",
            "event": "refresh",
            "endpoints": {"transactions": ["/v1/transactions?limit=1&skip=0"]},
        },
        "magicline": {
            "entityId": 1,
            "uuid": "u",
            "payload": [{"timestamp": 1_700_000_000_000, "type": "CUSTOMER_CREATED"}],
        },
    }
    if document := deliveries.get(provider.name):
        delivery = Delivery(UUID(int=7), "main", orjson.dumps(document), "application/json")
        found += provider.follow_up.plan(provider.follow_up.read(delivery, account), delivery, account).calls
    if provider.name == "authenteq":
        found += [
            Call("/export/x", purpose, context={"identifier": "1", "data": '{"id": "1"}'})
            for purpose in ("confirm", "export", "take-over")
        ]
    return found


def test_accounts_keep_their_secrets_to_themselves(provider: Provider[Any, Any]) -> None:
    """Neither a repr nor a message of an error shows one."""
    account = account_of(provider)
    secrets = [*account.inbound_secrets(), *account.outbound_secrets(), *account.shared_secrets()]
    assert all(isinstance(secret, SecretStr) for secret in secrets)
    assert not [secret for secret in secrets if secret.get_secret_value() in repr(account)]
