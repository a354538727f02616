"""Paybook: who sent a delivery, and which settings are taken."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import NotAuthentic
from shared.providers.interface import Unverified
from shared.providers.paybook import PROVIDER
from shared.providers.paybook.auth import PaybookInbound
from shared.providers.paybook.settings import PaybookAccount
from unit.providers.contract_suite import Headers, InboundContract, Recorded, recorded_deliveries


TOKENS = ("first-token-0123456789", "second_token.0123456789")
HEADER = (b"x-hook-secret", b"paybook-hook-secret-main")


def settings(**changes: Any) -> dict[str, Any]:
    """The settings of a full account, some of them changed or (None) left out."""
    full: dict[str, Any] = {
        "name": "main",
        "webhook_tokens": list(TOKENS),
        "webhook_header": {"name": "X-Hook-Secret", "value": HEADER[1].decode()},
        "api_key": "api-key-0123456789",
        "base_url": "https://sync.paybook.com",
    }
    return {name: value for name, value in {**full, **changes}.items() if value is not None}


def account(**changes: Any) -> PaybookAccount:
    """A full account, some of its settings changed or (None) left out."""
    return PaybookAccount.model_validate(settings(**changes))


class TestPaybookInbound(InboundContract):
    """The contract of all providers, for an account that sets a token and a header."""

    success_status = 200
    secret_headers = (HEADER[0],)

    def inbound(self) -> PaybookInbound:
        """``main`` with two tokens and a header, and an account that has a token alone."""
        return PaybookInbound(
            [account(), account(name="other", webhook_tokens=["other-token-0123456789"], webhook_header=None)]
        )

    def genuine_headers(self, key_number: int, body: bytes) -> Headers:
        """What Paybook sends when the webhook was registered with a custom header."""
        del key_number, body
        return [(b"content-type", b"application/json"), HEADER]

    def token(self, key_number: int) -> bytes:
        """The account's first or second token."""
        return TOKENS[key_number].encode()

    @pytest.mark.parametrize("recorded", recorded_deliveries("paybook"), ids=lambda recorded: recorded.name)
    def test_recorded_deliveries_are_authentic(self, recorded: Recorded) -> None:
        """They carry the header that the webhook was registered with."""
        assert self.account == self.admit(Unverified(recorded.headers, self.token(0)), recorded.body)

    def test_the_token_alone_is_enough_where_no_header_is_set(self) -> None:
        """An account without ``webhook_header`` is known by its token, whatever headers come along."""
        assert "other" == self.admit(Unverified([(HEADER[0], b"anything")], b"other-token-0123456789"))
        assert "other" == self.admit(Unverified([], b"other-token-0123456789"))

    def test_the_right_header_does_not_help_a_wrong_token(self) -> None:
        """Both must be right; the header names no account."""
        with pytest.raises(NotAuthentic):
            self.admit(Unverified([HEADER], b"wrong-token-0123456789"))

    def test_a_token_that_is_percent_encoded_is_refused(self) -> None:
        """Tokens need no encoding, so another spelling of one is not it."""
        self.refused(Unverified([HEADER], b"%66irst-token-0123456789"))

    def test_an_empty_header_value_is_refused_for_an_account_with_a_header(self) -> None:
        """The header must be there once and not be empty."""
        self.refused(Unverified([(HEADER[0], b"")], self.token(0)))


def test_the_provider_takes_a_token_in_its_path() -> None:
    """The route is ``/webhooks/paybook/{token}``."""
    assert ("paybook", True) == (PROVIDER.name, PROVIDER.inbound([account()]).takes_token)


def test_tokens_and_the_header_are_inbound_and_the_api_key_is_outbound() -> None:
    """So that no two accounts share one of them and none equals an API key."""
    found = account()
    assert [*TOKENS, HEADER[1].decode()] == [secret.get_secret_value() for secret in found.inbound_secrets()]
    assert ["api-key-0123456789"] == [secret.get_secret_value() for secret in found.outbound_secrets()]


def test_an_account_is_shown_without_its_secrets() -> None:
    """``repr`` gives away neither token, header value nor key."""
    shown = repr(account())
    assert not [secret for secret in (*TOKENS, HEADER[1].decode(), "api-key-0123456789") if secret in shown]


def test_reads_are_made_on_behalf_of_the_user_unless_told_otherwise() -> None:
    """``api_key_user`` is what the vendor's own webhook sample uses."""
    assert ["api_key_user", "api_key"] == [account().auth, account(auth="api_key").auth]


def test_the_host_must_be_set() -> None:
    """The vendor's host has changed twice, so there is no default."""
    with pytest.raises(ValidationError, match="base_url"):
        account(base_url=None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"webhook_tokens": []}, "webhook_tokens"),
        ({"webhook_tokens": [*TOKENS, "third-token-0123456789"]}, "webhook_tokens"),
        ({"webhook_tokens": [""]}, "at least 16 characters"),
        ({"webhook_tokens": ["fifteen-letters"]}, "at least 16 characters"),
        ({"webhook_tokens": ["with/a/slash/0123456789"]}, "a letter, a digit"),
        ({"webhook_tokens": ["with a blank 0123456789"]}, "a letter, a digit"),
        ({"webhook_tokens": ["mit-schlüssel-0123456789"]}, "a letter, a digit"),
        ({"webhook_tokens": ["with-a-line-end-0123456789\n"]}, "a letter, a digit"),
        ({"webhook_header": {"name": "", "value": "v"}}, "webhook_header.name"),
        ({"webhook_header": {"name": "X Hook", "value": "v"}}, "webhook_header.name"),
        ({"webhook_header": {"name": "X-Hook", "value": ""}}, "must be visible ASCII"),
        ({"webhook_header": {"name": "X-Hook", "value": "ends with a blank "}}, "must be visible ASCII"),
        ({"webhook_header": {"name": "X-Hook", "value": "two\r\nX-Lines: 1"}}, "must be visible ASCII"),
        ({"webhook_header": {"name": "X-Hook"}}, "webhook_header.value"),
        ({"webhook_header": {"name": "X-Hook", "value": "v", "other": 1}}, "webhook_header.other"),
        ({"api_key": ""}, "without a comma"),
        ({"api_key": "key,id_user=somebody"}, "without a comma"),
        ({"api_key": "key\r\nX-Other: 1"}, "without a comma"),
        ({"api_key": None}, "api_key"),
        ({"auth": "basic"}, "auth"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(changes: dict[str, Any], sentence: str) -> None:
    """The sentence names the field or says what it must be, and never shows a secret."""
    values = {name: value for name, value in {**settings(), **changes}.items() if value is not None}
    with pytest.raises(ValidationError, match=sentence):
        PaybookAccount.model_validate(values)
