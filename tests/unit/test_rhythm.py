"""What is learned of an account's rhythm, and which silence is unusual."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import rhythm
from shared.rhythm import Rhythm


MONDAY = datetime(2026, 5, 4, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WEEK = timedelta(weeks=1)
SPANS = 6.0


def watched(open_at: Callable[[datetime], bool], until: datetime, *, begin: datetime = MONDAY) -> Rhythm:
    """An account with an event each minute while ``open_at``, looked at every minute."""
    now, last = begin, None
    known = rhythm.unknown(now, None)
    while now < until:
        now += MINUTE
        last = now if open_at(now) else last
        known = rhythm.look(known, now, last)
    return known


def open_by_day(moment: datetime) -> bool:
    """From six to ten, but not on Sundays."""
    return 6 <= moment.hour < 22 and moment.weekday() != 6


@pytest.fixture(scope="module")
def studio() -> Rhythm:
    """Two weeks of a studio that is closed at night and on Sundays."""
    return watched(open_by_day, MONDAY + 2 * WEEK)


def silent_from(known: Rhythm, last: datetime, at: datetime) -> bool:
    """Whether a silence since ``last`` is unusual at a moment."""
    return rhythm.is_silent(rhythm.look(known, last, last), at, SPANS)


def test_a_busy_account_that_falls_silent_is_told_within_the_hour(studio: Rhythm) -> None:
    """Twelve spans an hour are usual; six are enough."""
    tuesday = MONDAY + 3 * WEEK + timedelta(days=1, hours=12)
    assert not silent_from(studio, tuesday, tuesday + 25 * MINUTE)
    assert silent_from(studio, tuesday, tuesday + 35 * MINUTE)


def test_a_closed_night_and_a_closed_sunday_are_no_silence(studio: Rhythm) -> None:
    """Not until it should have opened again, and half an hour beyond."""
    saturday_evening = MONDAY + 2 * WEEK + timedelta(days=5, hours=21, minutes=59)
    monday_morning = MONDAY + 3 * WEEK + timedelta(hours=6)
    assert not silent_from(studio, saturday_evening, saturday_evening + timedelta(hours=30))
    assert not silent_from(studio, saturday_evening, monday_morning + 25 * MINUTE)
    assert silent_from(studio, saturday_evening, monday_morning + 35 * MINUTE)


def test_nothing_is_said_of_hours_that_were_never_seen() -> None:
    """Within the first week nobody knows whether the silence is usual."""
    known = watched(open_by_day, MONDAY + timedelta(days=3, hours=12))
    assert not rhythm.is_silent(known, MONDAY + timedelta(days=4, hours=12), SPANS)
    assert 0.0 == rhythm.expected(rhythm.unknown(MONDAY, None), MONDAY + WEEK)


def test_a_burst_is_one_sign_of_life() -> None:
    """A thousand events in one minute of each day promise no more than one span a day."""
    known = watched(lambda moment: moment.hour == 9 and moment.minute < 5, MONDAY + 2 * WEEK)
    last = MONDAY + 2 * WEEK + timedelta(hours=9)
    assert not silent_from(known, last, last + timedelta(days=4))
    assert silent_from(known, last, last + timedelta(days=8))


def test_an_hour_that_was_not_watched_through_is_not_learned_from(studio: Rhythm) -> None:
    """A relay that was away for an hour does not take the account for silent then."""
    before = studio.spans
    later = studio.looked_at + timedelta(hours=9)
    known = rhythm.look(studio, later, studio.last_event_at)
    for minute in range(1, 60):
        known = rhythm.look(known, later + minute * MINUTE, studio.last_event_at)
    assert list(before) == list(known.spans)


def test_one_silent_week_does_not_make_silence_usual(studio: Rhythm) -> None:
    """A week counts for a third."""
    known = studio
    now = studio.looked_at
    while now < MONDAY + 3 * WEEK:
        now += MINUTE
        known = rhythm.look(known, now, studio.last_event_at)
    noon = MONDAY + 3 * WEEK + timedelta(hours=12)
    assert 8.0 == pytest.approx(known.spans[12], abs=0.1)
    assert silent_from(known, noon, noon + timedelta(hours=1))


def test_silence_of_zero_spans_is_never_told(studio: Rhythm) -> None:
    """The setting that turns it off."""
    assert not rhythm.is_silent(studio, studio.looked_at + WEEK, 0)


@given(
    st.lists(
        st.tuples(st.integers(min_value=0, max_value=200_000), st.one_of(st.none(), st.integers(0, 200_000))),
        max_size=60,
    )
)
def test_whatever_is_seen_stays_within_bounds(looks: list[tuple[int, int | None]]) -> None:
    """Clocks that jump, events that are late: an hour has at most twelve spans, and nothing expected is negative."""
    known = rhythm.unknown(MONDAY, None)
    for after, event in looks:
        now = MONDAY + timedelta(seconds=after)
        known = rhythm.look(known, now, MONDAY + timedelta(seconds=event) if event is not None else None)
        assert all(0 <= spans <= 12 for spans in known.spans)
        assert rhythm.expected(known, now) >= 0
