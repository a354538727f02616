"""What each provider means by a refusal: the account, or one thing of it."""

from typing import Any

import pytest

from shared.providers.interface import Call, FollowUp, Refusal
from shared.providers.magicline.event_types import READS
from shared.providers.registry import PROVIDERS


CALL = {
    "imin": Call("/api/v2/customer-accounts/1", "customer-account"),
    "magicline": Call("/v1/customers/1", "customer"),
    "paybook": Call("/v1/accounts", "accounts"),
    "authenteq": Call("/x", "confirm"),
}


def refusal(provider: str, status: int, said: str = "") -> Refusal | None:
    """What it means."""
    follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
    return follow_up.refusal(CALL[provider], status, said)


@pytest.mark.parametrize(
    ("provider", "status", "said", "about", "reason"),
    [
        *[(provider, status, "", "account", "account-refused") for provider in CALL for status in (401, 402)],
        ("imin", 403, "", "one", "refused"),
        ("paybook", 403, "", "one", "refused"),
        ("magicline", 403, "", "one", "missing-scope"),
        ("paybook", 401, "the envelope says 401: Invalid user", "one", "user-gone"),
        ("paybook", 401, '{"message":"INVALID USER"}', "one", "user-gone"),
        ("paybook", 401, "Unauthorized", "account", "account-refused"),
        ("paybook", 402, "Invalid user", "account", "account-refused"),
        ("authenteq", 403, '{"errorCode":"ACCOUNT_DEACTIVATED"}', "account", "account-refused"),
        ("authenteq", 403, '{"errorCode":"OTHER"}', "one", "refused"),
        ("magicline", 401, "Invalid user", "account", "account-refused"),
    ],
)
def test_a_refusal_is_about_the_account_or_about_one_thing(
    provider: str, status: int, said: str, about: str, reason: str
) -> None:
    """As the provider says; otherwise as the status says."""
    found = refusal(provider, status, said)
    assert found is not None
    assert (about, reason) == (found.about, found.reason)
    assert about == "account" or "check the API key" not in found.detail


@pytest.mark.parametrize("provider", CALL)
@pytest.mark.parametrize("status", [200, 400, 404, 405, 410, 418, 429, 500, 503])
def test_no_other_status_is_a_refusal(provider: str, status: int) -> None:
    """Whatever its body says."""
    assert refusal(provider, status, "Invalid user ACCOUNT_DEACTIVATED") is None


@pytest.mark.parametrize("purpose", READS)
def test_every_read_of_magicline_names_its_scope(purpose: str) -> None:
    """With the endpoint, as the vendor's documents write both."""
    found = PROVIDERS["magicline"].follow_up.refusal(Call("/x", purpose), 403, "")
    assert found is not None
    assert READS[purpose].scope.endswith("_READ")
    assert found.detail.startswith(
        f"GET {READS[purpose].path.partition('?')[0]} needs the scope {READS[purpose].scope}"
    )
