"""When an account usually speaks, learned from when it has spoken; and so whether its silence is unusual.

What is learned is small and plain: for each hour of the week (UTC), in how many spans of five minutes there was an
event (0 to 12), a mean in which the last week counts for a third. Spans are counted, not events, so that a burst is one
sign of life. A silence is unusual when so many spans with an event were to be expected since the last one that having
none is hardly chance. A studio that is closed at night expects nothing there; an hour never seen before expects nothing
either, so there is no warning within the first week.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final


HOURS: Final = 168
SPAN: Final = timedelta(minutes=5)
LONGEST_GAP: Final = timedelta(minutes=10)
"""Between two looks; after a longer one nobody knows what happened, and the hour is not learned from."""

_NEWEST_COUNTS: Final = 1 / 3
_HOUR: Final = timedelta(hours=1)
_FARTHEST: Final = timedelta(days=28)
_MONDAY: Final = datetime(1970, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What is known of one account. ``spans`` and ``weeks`` (how often it was learned) are by hour of the week.

    ``in_hour`` counts the spans with an event in ``hour``, which is under way; ``whole``: it was watched from its
    beginning.
    """

    spans: Sequence[float]
    weeks: Sequence[int]
    hour: datetime
    in_hour: int
    whole: bool
    looked_at: datetime
    last_event_at: datetime | None


def unknown(now: datetime, last_event_at: datetime | None) -> Rhythm:
    """Nothing is known yet."""
    return Rhythm([0.0] * HOURS, [0] * HOURS, _floor(now, _HOUR), 0, False, now, last_event_at)  # noqa: FBT003 - by place


def look(rhythm: Rhythm, now: datetime, last_event_at: datetime | None) -> Rhythm:
    """What is known after another look, which saw this as the account's newest event. Look every minute or so."""
    if now <= rhythm.looked_at:
        return rhythm
    missed = now - rhythm.looked_at > LONGEST_GAP
    hour = _floor(now, _HOUR)
    spans, weeks, in_hour, whole = rhythm.spans, rhythm.weeks, rhythm.in_hour, rhythm.whole and not missed
    news = last_event_at is not None and (rhythm.last_event_at is None or last_event_at > rhythm.last_event_at)
    if hour > rhythm.hour:
        if news and last_event_at is not None and last_event_at < hour:
            in_hour += _is_new_span(rhythm, last_event_at)
        if whole:
            spans, weeks = _learned(rhythm, in_hour)
        in_hour, whole = 0, not missed
    if news and last_event_at is not None and last_event_at >= hour:
        in_hour += _is_new_span(rhythm, last_event_at)
    newest = last_event_at if news else rhythm.last_event_at
    return replace(
        rhythm,
        spans=spans,
        weeks=weeks,
        hour=hour,
        in_hour=in_hour,
        whole=whole,
        looked_at=now,
        last_event_at=newest,
    )


def expected(rhythm: Rhythm, now: datetime) -> float:
    """In how many spans since the last event there would usually have been one."""
    if rhythm.last_event_at is None:
        return 0.0
    at = max(rhythm.last_event_at, now - _FARTHEST)
    total = 0.0
    while at < now:
        end = min(_floor(at, _HOUR) + _HOUR, now)
        total += rhythm.spans[_hour_of_week(at)] * ((end - at) / _HOUR)
        at = end
    return total


def is_silent(rhythm: Rhythm, now: datetime, spans: float) -> bool:
    """Whether the silence is longer than it should be: so many spans were expected. Two spans long at least."""
    if not spans or rhythm.last_event_at is None or now - rhythm.last_event_at < 2 * SPAN:
        return False
    return expected(rhythm, now) >= spans


def _learned(rhythm: Rhythm, in_hour: int) -> tuple[list[float], list[int]]:
    spans, weeks = list(rhythm.spans), list(rhythm.weeks)
    place = _hour_of_week(rhythm.hour)
    share = 1.0 if weeks[place] == 0 else _NEWEST_COUNTS
    spans[place] += (in_hour - spans[place]) * share
    weeks[place] = min(weeks[place] + 1, 1000)
    return spans, weeks


def _is_new_span(rhythm: Rhythm, at: datetime) -> bool:
    return rhythm.last_event_at is None or _floor(at, SPAN) > _floor(rhythm.last_event_at, SPAN)


def _floor(moment: datetime, step: timedelta) -> datetime:
    return moment - (moment - _MONDAY) % step


def _hour_of_week(moment: datetime) -> int:
    return (moment - _MONDAY) // _HOUR % HOURS
