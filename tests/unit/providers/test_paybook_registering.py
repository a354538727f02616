"""What is said and done about registrations at Paybook."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from shared.providers.paybook.api import Registration
from shared.providers.paybook.registering import examine, url_of
from shared.providers.paybook.settings import PaybookAccount, WebhookRegistration


OURS = "https://hooks.example.com/webhooks/paybook/token-of-our-webhook"


def account(**registration: Any) -> PaybookAccount:
    """An account; with fields of ``registration``, or without one."""
    return PaybookAccount(
        name="main",
        base_url="https://sync.paybook.com",
        webhook_tokens=(SecretStr("token-of-our-webhook"), SecretStr("token-of-the-past-webhook")),
        api_key=SecretStr("key"),
        registration=WebhookRegistration(ingress="https://hooks.example.com/", **registration)
        if registration
        else None,
    )


def hook(which: str = "1", url: str = OURS, **fields: Any) -> Registration:
    """A registration."""
    return Registration(which, url, **fields)


def test_failures_are_told_when_they_grow_and_only_then() -> None:
    """What was counted at the last look is known."""
    assert [] == examine(account(), [hook(ct_failed=7)], {"1": 7}).warnings
    (warning,) = examine(account(), [hook(ct_failed=9)], {"1": 7}).warnings
    assert "webhook 1 has failed 9 times, 2 of them since the last look" == warning


def test_a_disabled_and_a_missing_registration_are_told_each_time() -> None:
    """Nothing is delivered meanwhile."""
    (disabled,) = examine(account(), [hook(is_disabled=1, ct_failed=1001)], {"1": 1001}).warnings
    assert "webhook 1 is disabled after 1001 failures" == disabled
    assert ["no webhook is registered"] == examine(account(), [], {}).warnings


def test_nothing_is_done_unless_the_settings_say_so() -> None:
    """Neither without a registration in the settings nor with one that is not to be renewed."""
    for settings in (account(), account(again=False)):
        examined = examine(settings, [hook(is_disabled=1)], {})
        assert (False, ()) == (examined.create, tuple(examined.delete))


@pytest.mark.parametrize(
    ("found", "create", "delete"),
    [
        ([], True, []),
        ([hook("1", is_disabled=1)], True, ["1"]),
        ([hook("1", is_disabled=1), hook("2")], False, ["1"]),
        ([hook("1", ct_failed=5)], False, []),
        ([hook("1", "https://other.example.com/hook", is_disabled=1)], True, []),
        ([hook("1", OURS.replace("our", "the-past"), is_disabled=0)], False, []),
    ],
)
def test_only_registrations_of_our_own_urls_are_replaced(
    found: list[Registration], *, create: bool, delete: list[str]
) -> None:
    """A new one where none of ours works; the disabled ones of ours go."""
    examined = examine(account(again=True), found, {})
    assert (create, delete) == (examined.create, list(examined.delete))


def test_the_url_is_ingress_with_the_newest_token() -> None:
    """And none is made up where the settings do not say where ingress is."""
    assert OURS == url_of(account(again=True))
    assert url_of(account()) is None


@pytest.mark.parametrize("ingress", ["hooks.example.com", "http://hooks.example.com", "https://h.example.com/x?y=1"])
def test_an_ingress_that_would_spill_the_token_is_refused(ingress: str) -> None:
    """The token in the URL is a secret: encrypted, or at home."""
    with pytest.raises(ValidationError, match="must be an origin"):
        WebhookRegistration(ingress=ingress)
