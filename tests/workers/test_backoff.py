"""When a fetch is tried again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.configuration import Retry
from workers.backoff import retry_after, wait_seconds


NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@given(st.integers(1, 1000), st.floats(0.1, 100), st.floats(0.1, 10_000))
def test_the_wait_is_a_random_part_of_the_exponential_one(attempts: int, base: float, most: float) -> None:
    """Never negative, never over the ceiling, however often it was tried."""
    wait = wait_seconds(Retry(base_seconds=base, max_seconds=most), attempts)

    assert 0 <= wait <= min(most, base * 2 ** min(attempts - 1, 60))


def test_waits_differ_so_that_what_failed_together_is_not_tried_again_together() -> None:
    """Full jitter spreads over the whole span."""
    waits = [wait_seconds(Retry(base_seconds=8), 1) for _ in range(200)]

    assert min(waits) < 2
    assert max(waits) > 6


def test_what_the_provider_asked_for_is_never_cut_short_up_to_the_policys_most() -> None:
    """Retry-After is honoured; a year is capped."""
    policy = Retry(base_seconds=1, max_seconds=3600)

    assert 120 == wait_seconds(policy, 1, 120)
    assert 3600 == wait_seconds(policy, 1, 31_536_000)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(value: str | None, seconds: float | None) -> None:
    """Seconds, or a date; anything else says nothing."""
    assert seconds == retry_after(value, NOW)
