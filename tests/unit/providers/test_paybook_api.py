"""Paybook: credentials, the limit, the registered webhooks, and sessions."""

import msgspec
import pytest

from shared.errors import BrokenAnswer, PenstockError, RefusedAnswer
from shared.providers.interface import Call, Limit
from shared.providers.paybook import api
from unit.providers.test_paybook import account
from unit.providers.test_paybook_answers import envelope, ok
from unit.providers.test_paybook_events import FOLLOW_UP


CALL = Call("/v1/accounts", "accounts", {"id_user": "u1"})
KEY_ALONE = {"Authorization": "api_key api_key=api-key-0123456789"}


def test_a_read_is_made_on_behalf_of_the_events_user() -> None:
    """As the vendor's own webhook sample does it."""
    expected = {"Authorization": "api_key api_key=api-key-0123456789,id_user=u1"}
    assert expected == FOLLOW_UP.credentials(CALL, account())


def test_a_read_is_made_with_the_key_alone_where_no_user_is_known_or_wanted() -> None:
    """An event without ``id_user``, or ``auth = "api_key"``."""
    assert KEY_ALONE == FOLLOW_UP.credentials(Call("/v1/accounts", "accounts"), account())
    assert KEY_ALONE == FOLLOW_UP.credentials(CALL, account(auth="api_key"))


def test_all_calls_of_an_account_share_five_a_second() -> None:
    """The published limit is "by server", not by path."""
    others = Call("/v1/transactions", "transactions")
    expected = Limit(scope="account", calls=5, seconds=1.0, penalty_seconds=1.0)
    assert expected == FOLLOW_UP.limit(CALL, account()) == FOLLOW_UP.limit(others, account())


# ── registered webhooks ───────────────────────────────────────────────────────────────────────────────────────────


def test_registrations_are_listed_with_the_key_alone() -> None:
    """As the seed's curl does it, also for an account that reads on behalf of users."""
    assert api.ApiRequest("GET", "/v1/webhooks", KEY_ALONE) == api.list_webhooks(account())


def test_a_webhook_is_created_as_the_seed_does_it() -> None:
    """The same body, byte for byte, as the seed's curl sends."""
    request = api.create_webhook(account(webhook_header=None), "https://webhook_domain/my_webhook")
    expected = (
        b'{"url":"https://webhook_domain/my_webhook","events":["credential_create","credential_update","refresh"]}'
    )
    assert ("POST", "/v1/webhooks", expected) == (request.method, request.path, request.body)
    assert {**KEY_ALONE, "Content-Type": "application/json"} == request.headers


def test_a_webhook_is_created_with_its_events_delay_and_secret_header() -> None:
    """What the account's deliveries must carry is registered with them."""
    request = api.create_webhook(account(), "https://example.com/h", ["refresh"], delay=30)
    assert {
        "url": "https://example.com/h",
        "events": ["refresh"],
        "delay": 30,
        "headers": {"X-Hook-Secret": "paybook-hook-secret-main"},
    } == msgspec.json.decode(request.body)


def test_a_webhook_is_deleted_by_its_id() -> None:
    """The id is the path's last segment."""
    expected = api.ApiRequest("DELETE", "/v1/webhooks/5d9bab5b8c91e73b2e4c75d3", KEY_ALONE)
    assert expected == api.delete_webhook(account(), "5d9bab5b8c91e73b2e4c75d3")


@pytest.mark.parametrize("id_webhook", ["", "..", "a/b", "a?b", "a b", "a\n", "ä"])
def test_what_cannot_be_an_id_is_not_sent(id_webhook: str) -> None:
    """One sentence says where ids are shown."""
    with pytest.raises(PenstockError, match="paybook webhooks list"):
        api.delete_webhook(account(), id_webhook)


def test_a_request_is_shown_without_its_secrets() -> None:
    """Neither the key in its headers nor the webhook header in its body."""
    shown = repr(api.create_webhook(account(), "https://example.com/h"))
    assert "ApiRequest(method='POST', path='/v1/webhooks')" == shown


SEED_REGISTRATION = """{
    "id_webhook": "5d9bab5b8c91e73b2e4c75d3",
    "id_user": null,
    "is_disabled": 1,
    "events": ["credential_create", "credential_update", "refresh"],
    "url": "https://webhook_domain/my_webhook",
    "delay": 0,
    "ct_failed": 1001,
    "dt_created": "2019-10-07T21:17:15+00:00",
    "dt_modified": "2020-03-20T05:37:43+00:00"
}"""


def test_the_seeds_registration_is_read() -> None:
    """With its count of failures, and that it was disabled for them."""
    [found] = api.registrations(ok(f"[{SEED_REGISTRATION}]").body)
    assert ("5d9bab5b8c91e73b2e4c75d3", 1, 1001) == (found.id_webhook, found.is_disabled, found.ct_failed)


def test_a_created_registration_comes_alone_and_with_times_in_seconds() -> None:
    """The answer to POST has one, without counts."""
    response = '{"id_webhook":"5d","url":"https://example.com/h","events":["refresh"],"dt_created":1570483035}'
    [found] = api.registrations(ok(response).body)
    assert ("5d", None, 1570483035) == (found.id_webhook, found.ct_failed, found.dt_created)


def test_a_refused_list_of_registrations_says_why() -> None:
    """The envelope's code and message."""
    with pytest.raises(RefusedAnswer, match="401: Unauthorized"):
        api.registrations(envelope(code=401, status=False, message="Unauthorized", response=None).body)


def test_a_long_message_ends_between_words() -> None:
    """Half of a key that it repeats would not be known for one where keys are taken out."""
    key = "key-of-the-api-0123456789"
    message = "x" * 170 + f", not with api_key={key}"
    with pytest.raises(RefusedAnswer) as refused:
        api.registrations(envelope(code=401, status=False, message=message, response=None).body)
    assert str(refused.value).endswith("not with api_key=...")


# ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_is_opened_with_the_key_alone() -> None:
    """The user is in the body; calls for the same user share the session."""
    login = api.login(Call("/v1/accounts", "accounts", {"id_user": "u1"}), account(auth="session"))
    assert login is not None
    assert ("u1", "/v1/sessions", b'{"id_user":"u1"}') == (login.session, login.path, login.body)
    assert KEY_ALONE["Authorization"] == login.headers["Authorization"]


@pytest.mark.parametrize(("auth", "user"), [("api_key_user", "u1"), ("api_key", "u1"), ("session", None)])
def test_no_session_is_opened_where_the_key_is_enough(auth: str, user: str | None) -> None:
    """Other accounts, and events that name no user."""
    assert api.login(Call("/v1/accounts", "accounts", {"id_user": user}), account(auth=auth)) is None


def test_a_sessions_token_is_read_from_its_envelope() -> None:
    """Where ``response.token`` is."""
    assert {"Authorization": "Bearer f3a1"} == api.session_credentials(ok('{"token":"f3a1","iv":"x"}').body)


@pytest.mark.parametrize("response", ["null", "{}", "true", '{"token":""}', '{"token":null}', '{"token":"a\\r\\nb"}'])
def test_a_session_without_a_usable_token_is_broken(response: str) -> None:
    """The token goes into a header."""
    with pytest.raises(BrokenAnswer):
        api.session_credentials(ok(response).body)
