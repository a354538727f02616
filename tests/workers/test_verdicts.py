"""What an answer's status means."""

import pytest

from shared.configuration import Retry
from shared.providers.interface import Call
from workers.verdicts import ACCOUNT_WAIT_SECONDS, Verdict, judge


POLICY = Retry(base_seconds=1, max_seconds=60, max_attempts=3)


def verdict(status: int, attempts: int = 1, *, missing: str = "retry", asked: float | None = None) -> Verdict:
    """The verdict on one answer."""
    call = Call("/v1/x", "x", missing=missing)  # type: ignore[arg-type]
    return judge(status=status, said="", call=call, attempts=attempts, policy=POLICY, asked=asked, penalty=30.0)


@pytest.mark.parametrize("status", [400, 405, 410])
def test_what_cannot_become_right_is_final_at_once(status: int) -> None:
    """The first attempt is the last."""
    assert "failed" == verdict(status).kind


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_account_waits_long_and_uses_up_nothing(status: int) -> None:
    """However often: it waits until the account is mended."""
    found = verdict(status, attempts=1000)

    assert ("again", ACCOUNT_WAIT_SECONDS, False) == (found.kind, found.wait_seconds, found.counted)


@pytest.mark.parametrize(("status", "whole"), [(401, True), (402, True), (403, False)])
def test_only_refused_credentials_stop_the_whole_account(status: int, whole: bool) -> None:  # noqa: FBT001 - a case
    """403 may be about one thing only."""
    assert whole is verdict(status).account


def test_an_announced_404_is_a_tombstone() -> None:
    """Gone as the event said."""
    assert "gone" == verdict(404, missing="tombstone").kind


def test_another_404_is_tried_five_times() -> None:
    """It may be the API's lag; then it is failed."""
    policy_kind = [verdict(404, attempts).kind for attempts in (1, 2)]

    assert ["again", "again"] == policy_kind
    assert "failed" == verdict(404, 5).kind


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 301, 418])
def test_everything_else_is_tried_again_until_attempts_are_used_up(status: int) -> None:
    """With backoff, then failed with a reason."""
    assert "again" == verdict(status, 2).kind
    assert ("failed", "attempts-used-up") == (verdict(status, 3).kind, verdict(status, 3).reason)


def test_429_keeps_away_for_what_it_asks_or_the_providers_documented_time() -> None:
    """Retry-After first; without one the documented penalty."""
    assert 12 <= verdict(429, asked=12).wait_seconds <= 60
    assert 30 <= verdict(429).wait_seconds <= 60
    assert verdict(429).slow_down
