"""Small bar charts, reckoned here and drawn by a template as SVG."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from ops.console.pulse import Bar


WIDTH: Final = 480
HEIGHT: Final = 72
_GAP: Final = 2.0


class Drawn(NamedTuple):
    """One bar: its place in the picture, and what it says."""

    x: float
    y: float
    width: float
    height: float
    at: datetime
    received: int


class Chart(NamedTuple):
    """A chart; ``per`` is what one bar counts over."""

    title: str
    per: str
    bars: Sequence[Drawn]
    most: int
    total: int
    first: datetime
    last: datetime


def chart(title: str, per: str, bars: Sequence[Bar]) -> Chart:
    """The bars in a picture of ``WIDTH`` by ``HEIGHT``; the highest reaches its top."""
    step = WIDTH / len(bars)
    most = max((bar.received or 0 for bar in bars), default=0)
    drawn = []
    for place, bar in enumerate(bars):
        received = bar.received or 0
        # a single delivery in a busy hour still leaves a mark
        height = max(2.0, HEIGHT * received / most) if received else 0.0
        drawn.append(
            Drawn(round(place * step, 2), round(HEIGHT - height, 2), round(step - _GAP, 2), round(height, 2), *_of(bar))
        )
    return Chart(title, per, drawn, most, sum(bar.received or 0 for bar in bars), bars[0].at, bars[-1].at)


def _of(bar: Bar) -> tuple[datetime, int]:
    return bar.at, bar.received or 0
