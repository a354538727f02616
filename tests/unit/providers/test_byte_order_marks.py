"""A byte order mark in front of JSON is passed over (RFC 8259, 8.1): at every provider, in deliveries and answers."""

from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest

from shared.errors import BrokenAnswer, Unreadable
from shared.providers.interface import Answer, Call, Delivery, FollowUp
from shared.providers.json_text import as_jsonb, parse
from shared.providers.registry import PROVIDERS


BOM = b"\xef\xbb\xbf"

ACCOUNTS: dict[str, dict[str, Any]] = {
    "imin": {"webhook_keys": ["to-us"], "api_key": "to-them", "base_url": "https://book.imin.co"},
    "magicline": {"webhook_keys": ["to-us"], "api_key": "to-them", "base_url": "https://a.open-api.magicline.com"},
    "paybook": {"webhook_tokens": ["0123456789abcdef"], "api_key": "to-them", "base_url": "https://sync.paybook.com"},
    "authenteq": {"client_id": "client-1", "client_secrets": ["client-secret"], "confirm": True},
}

CALLS: list[tuple[str, Call, bytes]] = [
    ("imin", Call("/api/v2/customer-accounts/c1", "customer-account"), b'{"identifier": "c1", "n": 1.10}'),
    ("magicline", Call("/v1/customers/1", "customer", {"external_id": "1"}), b'{"id": 1}'),
    ("magicline", Call("/v1/devices", "devices", {"external_id": "1"}, pick="1"), b'[{"id": 1}]'),
    ("magicline", Call("/x", "check-ins"), b'{"result": [{"checkinId": 1}], "hasNext": true, "offset": "2"}'),
    ("magicline", Call("/x", "additional-fields", {"external_id": "a"}), b'[{"id": 1}]'),
    ("magicline", Call("/x", "debt-collection-run", {"external_id": "1"}), b'{"status": "NEW"}'),
    ("magicline", Call("/x", "debt-collection-cases"), b'[{"id": 1}]'),
    ("paybook", Call("/v1/accounts", "accounts"), b'{"code": 200, "status": true, "response": [{"id_account": "a"}]}'),
    ("paybook", Call("/v1/attachments", "attachments"), b'{"code": 200, "status": true, "response": []}'),
    (
        "authenteq",
        Call("/x", "confirm", {"identifier": "v1", "data": '{"id": "v1"}'}),
        b'{"id": "v1", "status": "PASSED"}',
    ),
]


class Recorded(NamedTuple):
    """A delivery as it came in."""

    name: str
    body: bytes
    content_type: str


def recorded_deliveries(provider: str) -> list[Recorded]:
    """All of a provider, by name."""
    root = Path(__file__).parents[2] / "deliveries" / provider
    return [
        Recorded(
            folder.name,
            (folder / "body.raw").read_bytes(),
            {name.lower(): value for name, value in orjson.loads((folder / "headers.json").read_bytes())}[
                "content-type"
            ],
        )
        for folder in sorted(root.iterdir())
    ]


def account(provider: str) -> Any:
    """An account of this provider."""
    return PROVIDERS[provider].account.model_validate({"name": "a", **ACCOUNTS[provider]})


def understood(provider: str, body: bytes, content_type: str) -> Any:
    """What is made of a delivery, but for its identity where that is the body's digest."""
    follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
    delivery = Delivery(UUID(int=1), "a", body, content_type)
    try:
        event = follow_up.read(delivery, account(provider))
        return follow_up.types(event), follow_up.plan(event, delivery, account(provider))
    except Unreadable as error:
        return error.reason


@pytest.mark.parametrize(
    ("provider", "recorded"),
    [(provider, recorded) for provider in ACCOUNTS for recorded in recorded_deliveries(provider)],
    ids=lambda value: value.name if isinstance(value, Recorded) else value,
)
def test_a_delivery_with_a_mark_means_the_same(provider: str, recorded: Recorded) -> None:
    """Authenteq's JSON is the part ``result``; white space may stand between the mark and the JSON."""
    expected = understood(provider, recorded.body, recorded.content_type)
    for mark in (BOM, BOM + b"\r\n "):
        if provider == "authenteq":
            marked = recorded.body.replace(b'\r\n\r\n{"', b"\r\n\r\n" + mark + b'{"')
        else:
            marked = mark + recorded.body
        assert expected == understood(provider, marked, recorded.content_type)


@pytest.mark.parametrize(("provider", "call", "body"), CALLS)
@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", ""])
def test_an_answer_with_a_mark_means_the_same(provider: str, call: Call, body: bytes, content_type: str) -> None:
    """Records, their text and next pages, with or without a content type."""
    follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
    headers = {"content-type": content_type} if content_type else {}

    def interpreted(sent: bytes) -> Any:
        outcome = follow_up.interpret(call, Answer(200, headers, sent), account(provider))
        return [record._replace(data=(record.data or "").strip()) for record in outcome.records], [
            (each.path, each.page) for each in outcome.next
        ]

    assert interpreted(body) == interpreted(BOM + body) == interpreted(BOM + b"\n" + body)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("provider", ["imin", "magicline", "paybook"])
def test_another_encoding_is_no_json(provider: str, encoding: str) -> None:
    """Between systems JSON is UTF-8 (RFC 8259, 8.1): the delivery is kept and parked, the answer asked for again."""
    recorded = next(each for each in recorded_deliveries(provider) if each.name.endswith("__seed"))
    assert "not-json" == understood(provider, recorded.body.decode().encode(encoding), recorded.content_type)
    with pytest.raises(BrokenAnswer):
        parse('{"identifier": "c1"}'.encode(encoding), dict[str, Any])


@pytest.mark.parametrize("body", [BOM, BOM + b" \r\n"])
@pytest.mark.parametrize("provider", ["imin", "magicline", "paybook"])
def test_a_mark_alone_is_empty(provider: str, body: bytes) -> None:
    """As if nothing had been sent."""
    assert "empty" == understood(provider, body, "application/json")


@pytest.mark.parametrize("body", [BOM + BOM + b"{}", b"{}" + BOM, b" " + BOM + b"{}", b"\xbb\xbf{}", b"\xfe\xff{}"])
def test_only_one_mark_and_only_in_front_is_passed_over(body: bytes) -> None:
    """Anywhere else it is no JSON."""
    with pytest.raises(BrokenAnswer):
        parse(body, dict[str, Any])


def test_a_file_is_kept_with_its_mark() -> None:
    """Of what is no JSON nothing is taken away."""
    body = BOM + b"a;b\r\n"
    call = Call("/v1/attachments/1", "attachments")
    answer = Answer(200, {"content-type": "text/csv"}, body)
    (blob,) = PROVIDERS["paybook"].follow_up.interpret(call, answer, account("paybook")).blobs
    assert body == blob.content


def test_the_essence_of_a_list_leaves_out_the_requests_id_with_a_mark_too() -> None:
    """Or each answer of Paybook would look new."""
    call = Call("/v1/accounts", "accounts")
    sent = [BOM + b'{"rid": "%d", "code": 200}' % number for number in range(2)]
    first, second = (PROVIDERS["paybook"].follow_up.essence(call, Answer(200, {}, body)) for body in sent)
    assert first is not None
    assert first == second


def test_a_mark_within_a_string_is_a_character() -> None:
    """It is kept like any other."""
    assert '"\ufeffa"' == as_jsonb('"\ufeffa"'.encode())
