"""What an answer's status means."""

import pytest

from shared.configuration import Retry
from shared.providers.interface import Call, Refusal
from shared.providers.registry import PROVIDERS
from workers.follow_up.verdicts import ACCOUNT_WAIT_SECONDS, TRIES_WHEN_REFUSED, Verdict, judge


POLICY = Retry(base_seconds=1, max_seconds=60, max_attempts=3)
ACCOUNT = Refusal("account", "account-refused")
THING = Refusal("one", "missing-scope", "GET /v1/x needs the scope X_READ")


def verdict(
    status: int,
    attempts: int = 1,
    *,
    missing: str = "retry",
    asked: float | None = None,
    refusal: Refusal | None = None,
    refusals: int = 0,
    policy: Retry = POLICY,
) -> Verdict:
    """The verdict on one answer."""
    call = Call("/v1/x", "x", missing=missing)  # type: ignore[arg-type]
    return judge(
        status=status,
        said="",
        call=call,
        account="studio-berlin",
        attempts=attempts,
        refusals=refusals,
        refusal=refusal,
        policy=policy,
        asked=asked,
        longest=3600.0,
        penalty=30.0,
    )


@pytest.mark.parametrize("status", [400, 405, 410])
def test_what_cannot_become_right_is_final_at_once(status: int) -> None:
    """The first attempt is the last."""
    assert "failed" == verdict(status).kind


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_account_waits_long_and_uses_up_nothing(status: int) -> None:
    """However often: it waits until the account is mended, and so does everything else of it."""
    found = verdict(status, attempts=1000, refusals=4, refusal=ACCOUNT)

    assert ("again", ACCOUNT_WAIT_SECONDS, False, False) == (
        found.kind,
        found.wait_seconds,
        found.counted,
        found.refused,
    )
    assert ("refused", True) == (found.trouble, found.for_certain)


@pytest.mark.parametrize("status", [401, 402])
def test_a_refused_account_is_named(status: int) -> None:
    """The sentence says what to do."""
    found = verdict(status, refusal=ACCOUNT)
    assert found.detail.startswith(f"check the API key of studio-berlin: the API answered {status}")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_thing_is_tried_a_few_times_and_then_ends(status: int) -> None:
    """With its own reason and a sentence that leaves the key alone; the account's circuit learns nothing of it."""
    found = [verdict(status, 1000, refusal=THING, refusals=before) for before in range(TRIES_WHEN_REFUSED)]

    assert ["again"] * (TRIES_WHEN_REFUSED - 1) + ["failed"] == [each.kind for each in found]
    assert {("missing-scope", None, True, True)} == {
        (each.reason, each.trouble, each.counted, each.refused) for each in found
    }
    for each in found:
        assert each.detail.startswith(f"GET /v1/x needs the scope X_READ: the API answered {status}")
        assert "key" not in each.detail


@pytest.mark.parametrize("status", [401, 402, 403])
def test_what_a_status_means_by_itself(status: int) -> None:
    """401 and 402 are about who asks, 403 is about what was asked for; no other status is a refusal."""
    refusal = PROVIDERS["imin"].follow_up.refusal(Call("/x", "customer-account"), status, "")
    assert refusal == (Refusal("one", "refused") if status == 403 else ACCOUNT)
    assert PROVIDERS["imin"].follow_up.refusal(Call("/x", "customer-account"), 404, "") is None


@pytest.mark.parametrize(("status", "trouble"), [(500, "down"), (503, "down"), (404, None), (429, None), (418, None)])
def test_errors_of_the_server_may_mean_that_the_api_is_down(status: int, trouble: str | None) -> None:
    """Others say nothing about it."""
    assert trouble == verdict(status).trouble


def test_an_announced_404_is_a_tombstone() -> None:
    """Gone as the event said."""
    assert "gone" == verdict(404, missing="tombstone").kind


@pytest.mark.parametrize("attempts", [1, 7, 1000])
def test_another_404_is_tried_five_times(attempts: int) -> None:
    """It may be the API's lag; then it is failed. Attempts that failed otherwise do not count."""
    found = [verdict(404, attempts, refusals=before) for before in range(TRIES_WHEN_REFUSED)]

    assert ["again", "again", "again", "again", "failed"] == [each.kind for each in found]
    assert "attempts-used-up" == found[-1].reason
    assert found[-1].detail.endswith("(5 times)")


def test_the_tries_of_what_is_not_found_are_spread_over_minutes() -> None:
    """What a provider lists a bit later is found; a replica lags by seconds, a list by a minute or two."""
    policy = Retry(base_seconds=1, max_seconds=3600, max_attempts=20)
    waits = [verdict(404, refusals=before, policy=policy).wait_seconds for before in range(4)]

    assert all(low <= wait <= 1.25 * low for low, wait in zip((1, 5, 30, 120), waits, strict=True))
    assert 400 == verdict(404, refusals=0, policy=policy, asked=400).wait_seconds


def test_the_waits_for_what_is_not_found_follow_the_settings() -> None:
    """They are in ``base_seconds``, and none is longer than ``max_seconds``."""
    policy = Retry(base_seconds=0.1, max_seconds=2, max_attempts=20)
    waits = [verdict(404, refusals=before, policy=policy).wait_seconds for before in range(4)]
    assert 0.1 <= waits[0] <= 0.125
    assert 2 == waits[2] == waits[3]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 301, 418])
def test_everything_else_is_tried_again_until_attempts_are_used_up(status: int) -> None:
    """With backoff, then failed with a reason."""
    assert "again" == verdict(status, 2).kind
    assert ("failed", "attempts-used-up") == (verdict(status, 3).kind, verdict(status, 3).reason)


def test_429_empties_the_budget_for_what_it_asks_or_the_providers_documented_time() -> None:
    """Retry-After first; without one the documented penalty. The call waits and uses up nothing, however often."""
    found = verdict(429, attempts=1000)

    assert ("again", 30.0, 30.0, False) == (found.kind, found.wait_seconds, found.empty_seconds, found.counted)
    assert 12 == verdict(429, asked=12).empty_seconds


def test_a_retry_after_of_a_year_is_capped_and_said() -> None:
    """An hour at most; the sentence says what was asked for."""
    found = verdict(429, asked=31_536_000)

    assert 3600 == found.empty_seconds
    assert found.detail.endswith("(Retry-After of 31,536,000 s, taken as 3,600 s)")
    assert "31,536,000" in verdict(503, asked=31_536_000).detail
