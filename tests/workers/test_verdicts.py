"""What an answer's status means."""

import pytest

from shared.configuration import Retry
from shared.providers.interface import Call
from workers.follow_up.verdicts import ACCOUNT_WAIT_SECONDS, Verdict, judge


POLICY = Retry(base_seconds=1, max_seconds=60, max_attempts=3)


def verdict(status: int, attempts: int = 1, *, missing: str = "retry", asked: float | None = None) -> Verdict:
    """The verdict on one answer."""
    call = Call("/v1/x", "x", missing=missing)  # type: ignore[arg-type]
    return judge(
        status=status,
        said="",
        call=call,
        account="studio-berlin",
        attempts=attempts,
        policy=POLICY,
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
    """However often: it waits until the account is mended."""
    found = verdict(status, attempts=1000)

    assert ("again", ACCOUNT_WAIT_SECONDS, False) == (found.kind, found.wait_seconds, found.counted)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_account_is_named(status: int) -> None:
    """The sentence says what to do."""
    assert verdict(status).detail.startswith(f"check the API key of studio-berlin: the API answered {status}")


@pytest.mark.parametrize(("status", "for_certain"), [(401, True), (402, True), (403, False)])
def test_only_refused_credentials_stop_the_whole_account_at_once(status: int, for_certain: bool) -> None:  # noqa: FBT001 - a case
    """403 may be about one thing only: only several in a row are about the account."""
    found = verdict(status)

    assert ("refused", for_certain) == (found.trouble, found.for_certain)


@pytest.mark.parametrize(("status", "trouble"), [(500, "down"), (503, "down"), (404, None), (429, None), (418, None)])
def test_errors_of_the_server_may_mean_that_the_api_is_down(status: int, trouble: str | None) -> None:
    """Others say nothing about it."""
    assert trouble == verdict(status).trouble


def test_an_announced_404_is_a_tombstone() -> None:
    """Gone as the event said."""
    assert "gone" == verdict(404, missing="tombstone").kind


def test_another_404_is_tried_five_times() -> None:
    """It may be the API's lag; then it is failed."""
    policy_kind = [verdict(404, attempts).kind for attempts in (1, 2)]

    assert ["again", "again"] == policy_kind
    assert "failed" == verdict(404, 5).kind


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
