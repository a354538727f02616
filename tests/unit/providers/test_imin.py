"""imin: who sent it, what it asks for, and what the answers mean."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import BrokenAnswer, Unreadable
from shared.providers.imin import PROVIDER
from shared.providers.imin.auth import IminInbound
from shared.providers.imin.settings import IminAccount
from shared.providers.interface import Admission, Answer, Call, Delivery, Outcome, Record, Unverified
from unit.providers.contract_suite import Headers, InboundContract, Recorded, recorded_deliveries


FOLLOW_UP = PROVIDER.follow_up
ID = "https://book.imin.co/api/v2/customer-accounts/abc"
PATH = "/api/v2/customer-accounts/abc"


def account(name: str = "main", **settings: Any) -> IminAccount:
    """An account as ``penstock.toml`` would give it."""
    return IminAccount.model_validate(
        {
            "name": name,
            "webhook_keys": [f"{name}-webhook-key-1", f"{name}-webhook-key-2"],
            "api_key": f"{name}-api-key",
            "base_url": "https://book.imin.co",
            **settings,
        }
    )


def delivery(body: bytes) -> Delivery:
    """A delivery to ``main``."""
    return Delivery(UUID(int=1), "main", body, "application/json")


def path_called(url: str, **settings: Any) -> str:
    """The path of the one call that a delivery with this ``@id`` leads to."""
    body = delivery(orjson.dumps({"@id": url, "identifier": "abc"}))
    main = account(**settings)
    (call,) = FOLLOW_UP.plan(FOLLOW_UP.read(body, main), body, main).calls
    return call.path


def answered(body: bytes, call: Call | None = None, **settings: Any) -> Outcome:
    """What an answer to a call (Get Customer Account unless given) means."""
    return FOLLOW_UP.interpret(call or Call(PATH, "customer-account"), Answer(200, {}, body), account(**settings))


class TestInbound(InboundContract):
    """imin's key is one header."""

    success_status = 204
    secret_headers = (b"x-api-key",)

    def inbound(self) -> IminInbound:
        """Two brokers."""
        return IminInbound([account("other"), account()])

    def genuine_headers(self, key_number: int, body: bytes) -> Headers:
        """The key agreed on beforehand."""
        del body
        return [(b"x-api-key", f"main-webhook-key-{key_number + 1}".encode()), (b"content-type", b"application/json")]

    def test_our_own_api_key_does_not_open_the_webhook(self) -> None:
        """The key for our calls is another one than the key that imin sends."""
        self.refused(self.with_values(b"x-api-key", b"main-api-key"))


class TestSettings:
    """What an account may say."""

    def test_keys_are_listed_by_direction(self) -> None:
        """So that the configuration can refuse a key that is used both ways."""
        main = account()
        assert ["main-webhook-key-1", "main-webhook-key-2"] == [
            key.get_secret_value() for key in main.inbound_secrets()
        ]
        assert ["main-api-key"] == [key.get_secret_value() for key in main.outbound_secrets()]
        assert [] == list(main.shared_secrets())

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/linked",
            "linked/",
            "a//b",
            "..",
            "a/../b",
            ".hidden",
            "a?b=c",
            "a#b",
            "a%2fb",
            "a b",
            "é",
            "a\\b",
            "a\n",
        ],
    )
    def test_an_extra_path_is_a_plain_path_below_the_account(self, path: str) -> None:
        """Nothing that could lead elsewhere."""
        with pytest.raises(ValidationError):
            account(extra_paths=[path])

    @pytest.mark.parametrize("paths", [["linked-accounts", "linked-accounts"], ["customer"], ["entitlement"]])
    def test_an_extra_path_hides_nothing_in_the_record(self, paths: list[str]) -> None:
        """Its answer is kept under its own name, which must be free."""
        with pytest.raises(ValidationError):
            account(extra_paths=paths)

    def test_a_notification_pattern_is_checked(self) -> None:
        """A pattern that does not compile is refused at start, not at the first answer."""
        with pytest.raises(ValidationError, match="not a regular expression"):
            account(notification_keys="(")

    @pytest.mark.parametrize("keys", [[], ["a", "b", "c"]])
    def test_there_are_one_or_two_webhook_keys(self, keys: list[str]) -> None:
        """Two are enough for a rotation."""
        with pytest.raises(ValidationError):
            account(webhook_keys=keys)


@pytest.mark.parametrize("recorded", recorded_deliveries("imin"), ids=lambda recorded: recorded.name)
def test_a_recorded_delivery_leads_to_what_is_expected(recorded: Recorded) -> None:
    """From the headers to the planned calls, or to the reason why it is parked."""
    main = account(webhook_keys=["imin-webhook-key-1"])
    admission = IminInbound([main]).authenticate(Unverified(recorded.headers))
    assert Admission("main") == admission
    received = Delivery(UUID(int=1), "main", recorded.body, recorded.content_type)
    found: dict[str, Any]
    try:
        event = FOLLOW_UP.read(received, main)
        calls = [call.path for call in FOLLOW_UP.plan(event, received, main).calls]
        found = {"types": list(FOLLOW_UP.types(event)), "identity": FOLLOW_UP.identity(event), "calls": calls}
    except Unreadable as error:
        found = {"unreadable": error.reason}
    assert recorded.expected == found


class TestReading:
    """Bodies."""

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "empty"),
            (b"\n", "empty"),
            (b"identifier=abc", "not-json"),
            (b'{"@id": "https://', "not-json"),
            (b"[]", "wrong-shape"),
            (b'"abc"', "wrong-shape"),
            (b"{}", "wrong-shape"),
            (b'{"@id": "https://book.imin.co/x"}', "wrong-shape"),
            (b'{"identifier": "abc"}', "wrong-shape"),
            (b'{"@id": null, "identifier": "abc"}', "wrong-shape"),
            (b'{"@id": "https://book.imin.co/x", "identifier": 7}', "wrong-shape"),
        ],
    )
    def test_an_unreadable_body_names_its_reason(self, body: bytes, reason: str) -> None:
        """The event is parked with it."""
        with pytest.raises(Unreadable) as caught:
            FOLLOW_UP.read(delivery(body), account())
        assert reason == caught.value.reason

    @pytest.mark.parametrize(
        ("sent", "types"),
        [
            ("CustomerAccount", ["CustomerAccount"]),
            (["CustomerAccount", 7, "imin:X"], ["CustomerAccount", "imin:X"]),
            ("", ["CustomerAccount"]),
            (None, ["CustomerAccount"]),
            ({}, ["CustomerAccount"]),
            ([], ["CustomerAccount"]),
        ],
    )
    def test_an_odd_type_makes_no_body_unreadable(self, sent: Any, types: list[str]) -> None:
        """A type is for people: what is followed up is the account."""
        event = FOLLOW_UP.read(delivery(orjson.dumps({"@id": ID, "identifier": "abc", "@type": sent})), account())
        assert types == list(FOLLOW_UP.types(event))


class TestTrustedUrl:
    """Our API key is sent to whatever is called: only one customer account at the account's own origin."""

    @pytest.mark.parametrize(
        ("url", "path"),
        [
            (ID, PATH),
            ("HTTPS://BOOK.imin.CO/api/v2/customer-accounts/abc", PATH),
            ("https://book.imin.co:443/api/v2/customer-accounts/abc", PATH),
            ("https://book.imin.co:0443/api/v2/customer-accounts/abc", PATH),
            ("https://book.imin.co/api/v2/customer-accounts/a.b..c", "/api/v2/customer-accounts/a.b..c"),
            ("https://book.imin.co/api/v2/customer-accounts/Zo%C3%AB", "/api/v2/customer-accounts/Zo%C3%AB"),
            ("https://book.imin.co/api/v2/customer-accounts/a@b:c", "/api/v2/customer-accounts/a@b:c"),
        ],
    )
    def test_an_account_at_the_own_origin_is_called(self, url: str, path: str) -> None:
        """Scheme and host in any case, the default port said or not."""
        assert path == path_called(url)

    @pytest.mark.parametrize(
        ("base_url", "url"),
        [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000/api/v2/customer-accounts/abc"),
            ("http://localhost", "http://LOCALHOST:80/api/v2/customer-accounts/abc"),
            ("http://[::1]:9000", "http://[::1]:9000/api/v2/customer-accounts/abc"),
            ("https://Book.Imin.co:443/", ID),
        ],
    )
    def test_the_origin_is_the_accounts_own_whatever_it_is(self, base_url: str, url: str) -> None:
        """A laboratory or a sandbox has another origin."""
        assert PATH == path_called(url, base_url=base_url)

    @pytest.mark.parametrize(
        "url",
        [
            # another origin
            "https://example.org/api/v2/customer-accounts/abc",
            "http://book.imin.co/api/v2/customer-accounts/abc",
            "https://book.imin.co:8443/api/v2/customer-accounts/abc",
            "https://book.imin.co:/api/v2/customer-accounts/abc",
            "https://book.imin.co:99999/api/v2/customer-accounts/abc",
            "https://book.imin.co./api/v2/customer-accounts/abc",
            "https://book.imin.co.example.org/api/v2/customer-accounts/abc",
            "https://example.org/https://book.imin.co/api/v2/customer-accounts/abc",
            "ftp://book.imin.co/api/v2/customer-accounts/abc",
            "//book.imin.co/api/v2/customer-accounts/abc",
            "/api/v2/customer-accounts/abc",
            "https:book.imin.co/api/v2/customer-accounts/abc",
            "https:///book.imin.co/api/v2/customer-accounts/abc",
            # user information
            "https://user@book.imin.co/api/v2/customer-accounts/abc",
            "https://book.imin.co@example.org/api/v2/customer-accounts/abc",
            "https://book.imin.co:443@example.org/api/v2/customer-accounts/abc",
            "https://example.org\\@book.imin.co/api/v2/customer-accounts/abc",
            "https://example.org#@book.imin.co/api/v2/customer-accounts/abc",
            # another path
            "https://book.imin.co",
            "https://book.imin.co/api/v2/customer-accounts",
            "https://book.imin.co/api/v2/customer-accounts/",
            "https://book.imin.co/api/v2/customer-accounts/abc/",
            "https://book.imin.co/api/v2/customer-accounts/abc/actions",
            "https://book.imin.co/api/v2/customer-accounts//abc",
            "https://book.imin.co//api/v2/customer-accounts/abc",
            "https://book.imin.co/API/v2/customer-accounts/abc",
            "https://book.imin.co/api/v1/customer-accounts/abc",
            "https://book.imin.co/x/api/v2/customer-accounts/abc",
            # dot segments, plain and encoded
            "https://book.imin.co/api/v2/customer-accounts/.",
            "https://book.imin.co/api/v2/customer-accounts/..",
            "https://book.imin.co/api/v2/customer-accounts/../entitlements",
            "https://book.imin.co/api/v2/./customer-accounts/abc",
            "https://book.imin.co/api/v2/customer-accounts/%2e%2e",
            "https://book.imin.co/api/v2/customer-accounts/%2E.",
            "https://book.imin.co/api/v2/customer-accounts/..;x",
            "https://book.imin.co/api/v2/customer-accounts/..%2fentitlements",
            "https://book.imin.co/api/v2/customer-accounts/a%2Fb",
            "https://book.imin.co/api/v2/customer-accounts/a%5cb",
            "https://book.imin.co/api/v2/customer-accounts/a%252fb",
            "https://book.imin.co/api/v2/customer-accounts/a%00b",
            "https://book.imin.co/api/v2/customer-accounts/a%0d%0ab",
            "https://book.imin.co/api/v2/customer-accounts/a%7f",
            "https://book.imin.co/api/v2/customer-accounts/a%ff",
            "https://book.imin.co/api/v2/customer-accounts/a%zz",
            "https://book.imin.co/api/v2/customer-accounts/a%",
            # backslash, space, control characters
            "https://book.imin.co/api/v2/customer-accounts/a\\b",
            "https:\\\\book.imin.co\\api\\v2\\customer-accounts\\abc",
            "https://book.imin.co/api/v2/customer-accounts/a b",
            " https://book.imin.co/api/v2/customer-accounts/abc",
            "https://book.imin.co/api/v2/customer-accounts/abc\n",
            "https://book.imin.co/api/v2/customer-accounts/a\r\nX-Other: b",
            "https://book.imin.co/api/v2/customer-accounts/a\tb",
            "https://book.imin.co/api/v2/customer-accounts/a\x00b",
            # query and fragment
            "https://book.imin.co/api/v2/customer-accounts/abc?x=1",
            "https://book.imin.co/api/v2/customer-accounts/abc?",
            "https://book.imin.co/api/v2/customer-accounts/abc#x",
            "https://book.imin.co/api/v2/customer-accounts/?abc",
            # outside ASCII
            "https://b\u043eok.imin.co/api/v2/customer-accounts/abc",
            "https://book\u3002imin.co/api/v2/customer-accounts/abc",
            "https://book.imin.co/api/v2/customer-accounts/Zo\u00eb",
            "https://book.imin.co/api/v2/cu\u017ftomer-accounts/abc",
            "https://book.imin.co/api/v2/customer-accounts/a\u2028b",
            "https://book.imin.co:4\u06643/api/v2/customer-accounts/abc",
            # no address at all
            "",
            "abc",
            "https://book.imin.co/api/v2/customer-accounts/" + "a" * 256,
        ],
    )
    def test_anything_else_is_parked_and_not_called(self, url: str) -> None:
        """The reason is ``untrusted-url``, with a sentence that does not repeat the address."""
        with pytest.raises(Unreadable) as caught:
            path_called(url)
        assert caught.value.reason == "untrusted-url"
        assert "https://book.imin.co;" in caught.value.detail

    @given(tail=st.text(max_size=30), inserted=st.integers(0, len(ID)))
    def test_no_insertion_leads_away_from_one_customer_account(self, tail: str, inserted: int) -> None:
        """Whatever is put anywhere into a good address: it is parked, or one segment below the same path is called."""
        with contextlib.suppress(Unreadable):
            head, _, segment = path_called(ID[:inserted] + tail + ID[inserted:]).rpartition("/")
            assert head == "/api/v2/customer-accounts"
            assert segment.isascii()
            assert segment not in {"", ".", ".."}
            assert not set(segment) & set("/\\?#; ")


class TestPlan:
    """The call."""

    def test_events_of_one_customer_share_a_fetch(self) -> None:
        """The path is the resource, so a burst of deliveries coalesces."""
        call = Call(path_called(ID), "customer-account")
        assert PATH == call.resource

    def test_the_call_carries_our_key_and_has_no_known_limit(self) -> None:
        """No limit is published."""
        call = Call(PATH, "customer-account")
        assert {"X-API-KEY": "main-api-key"} == FOLLOW_UP.credentials(call, account())
        assert FOLLOW_UP.limit(call, account()) is None


class TestAnswers:
    """Records."""

    def test_the_answer_is_kept_as_it_was_sent(self) -> None:
        """Every digit, every member, in order."""
        body = b'{"@id": "x", "identifier": "abc", "balance": 1234567890.10, "note": "\xc3\xab"}\n'
        expected = Record("imin.customer-account", "abc", body.decode().strip())
        assert Outcome(records=[expected]) == answered(body)

    def test_an_encoded_identifier_is_compared_decoded(self) -> None:
        """The path says ``Zo%C3%AB``, the answer ``Zoë``."""
        call = Call("/api/v2/customer-accounts/Zo%C3%AB", "customer-account")
        (record,) = answered('{"identifier": "Zoë"}'.encode(), call).records
        assert record.external_id == "Zoë"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b'{"identifier": "abc"',
            b'{"identifier": "other"}',
            b'{"identifier": 7}',
            b"{}",
            b"[]",
            b'{"identifier": "abc", "note": "\xff"}',
        ],
    )
    def test_what_is_not_this_customers_account_is_a_broken_answer(self, body: bytes) -> None:
        """It is asked for again, and never overwrites a record."""
        with pytest.raises(BrokenAnswer):
            answered(body)

    def test_a_nul_in_a_string_does_not_fail_the_record(self) -> None:
        """It becomes the replacement character, which ``jsonb`` takes."""
        (record,) = answered(rb'{"identifier": "abc", "note": "a\u0000b"}').records
        assert record.data == r'{"identifier": "abc", "note": "a\ufffdb"}'


def notified(body: Any, **settings: Any) -> Sequence[str]:
    """The ids of the update notifications in an answer."""
    outcome = answered(orjson.dumps({"identifier": "abc", **body}), **settings)
    assert all(record.once for record in outcome.records[1:])
    return [record.external_id for record in outcome.records[1:]]


class TestNotifications:
    """Notification-like items, wherever the answer has them."""

    def test_each_item_is_a_record_that_changes_once(self) -> None:
        """Its id is its ``@id``, its data the exact text of the item."""
        body = b'{"identifier": "abc", "notifications": [{"@id": "n1", "amount": 1.10}, {"@id": "n2"}]}'
        assert [
            Record("imin.update-notification", "n1", '{"@id": "n1", "amount": 1.10}', once=True, owner="abc"),
            Record("imin.update-notification", "n2", '{"@id": "n2"}', once=True, owner="abc"),
        ] == list(answered(body).records[1:])

    def test_lists_are_found_at_any_depth_and_in_any_case(self) -> None:
        """The place is not documented (README.md, "Quirks")."""
        deep = {"customer": [{"imin:updateNotification": [{"@id": "n1", "more": {"NOTIFICATIONS": [{"@id": "n2"}]}}]}]}
        assert ["n1", "n2"] == notified(deep)

    @pytest.mark.parametrize(
        "body",
        [
            {"notifications": {"@id": "n1"}},
            {"notifications": ["n1", 7, None, [{"@id": "n1"}]]},
            {"notifications": [{"id": "n1"}, {"@id": 7}, {"@id": ""}, {"@id": None}, {"@id": "n" * 2001}]},
            {"entitlements": [{"@id": "n1"}]},
            {"notifications": {"entitlements": [{"@id": "n1"}]}},
        ],
    )
    def test_nothing_else_is_taken_for_one(self, body: Any) -> None:
        """Only objects with an ``@id``, directly in a list whose key names notifications."""
        assert [] == notified(body)

    def test_one_id_is_one_record(self) -> None:
        """The same item in two lists is still one notification."""
        assert ["n1"] == notified({"notifications": [{"@id": "n1"}], "oldNotifications": [{"@id": "n1"}]})

    def test_the_keys_are_a_setting(self) -> None:
        """Where imin names them otherwise, the pattern says so."""
        body = {"updates": [{"@id": "n1"}], "notifications": [{"@id": "n2"}]}
        assert ["n1"] == notified(body, notification_keys="^updates$")


class TestExtraPaths:
    """Further reads below the account, kept in the same record."""

    EXTRA = ("linked-accounts", "evidence/requests")

    def chain(self, first: bytes, *answers: bytes) -> tuple[list[Call], Outcome]:
        """The calls that follow one another, and the last outcome."""
        outcome = answered(first, extra_paths=self.EXTRA)
        calls: list[Call] = []
        for answer in answers:
            assert [] == list(outcome.records)
            (call,) = outcome.next
            stored = orjson.loads(orjson.dumps(call.context))
            calls.append(replace(call, context=stored))
            outcome = answered(answer, calls[-1], extra_paths=self.EXTRA)
        return calls, outcome

    def test_the_record_is_written_with_the_last_answer(self) -> None:
        """Each answer under its own path's name, every digit kept, notifications of all of them found."""
        calls, outcome = self.chain(
            b'{"identifier": "abc", "n": 1.10}',
            b'[{"imin:item": 2.50, "notifications": [{"@id": "n1"}]}]',
            b' {"a": "\\u0000"} ',
        )
        assert [f"{PATH}/linked-accounts", f"{PATH}/evidence/requests"] == [call.path for call in calls]
        assert [("retry", 2), ("retry", 3)] == [(call.missing, call.page) for call in calls]
        assert [] == list(outcome.next)
        whole = (
            '{"identifier":"abc","n":1.10,"linked-accounts":[{"imin:item": 2.50, "notifications": [{"@id": "n1"}]}],'
            '"evidence/requests":{"a": "\\ufffd"}}'
        )
        item = Record("imin.update-notification", "n1", '{"@id": "n1"}', once=True, owner="abc")
        assert [Record("imin.customer-account", "abc", whole), item] == list(outcome.records)

    def test_chains_that_began_with_different_answers_are_not_shared(self) -> None:
        """A later event must not be answered with what an earlier chain had read."""
        resources = {
            answered(body, extra_paths=self.EXTRA).next[0].resource
            for body in (b'{"identifier": "abc", "v": 1}', b'{"identifier": "abc", "v": 2}')
        }
        assert len(resources) == 2

    @pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b'{"a": "\xff"}'])
    def test_an_extra_answer_that_is_not_json_is_broken(self, body: bytes) -> None:
        """It is asked for again; what was collected stays in the call."""
        (call,) = answered(b'{"identifier": "abc"}', extra_paths=self.EXTRA).next
        with pytest.raises(BrokenAnswer):
            answered(body, call, extra_paths=self.EXTRA)
