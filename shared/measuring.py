"""What all processes measure with: the buckets of their histograms, and taking many observations at once.

With figures in files, as several processes of one installation keep them, each single increment is a lock and a write.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from prometheus_client import Histogram


LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
"""Seconds, for what takes milliseconds."""

WAIT_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0)
"""Seconds, for what may have to wait for a budget, an outage or a person."""


class BatchHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def observe_all(self, counts: Sequence[int], total: float) -> None:
        """So many observations fell into each bucket (the last is +Inf); ``total`` is their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Observations:
    """What one histogram has not been told yet: cheap to add to, handed over by ``flush``."""

    def __init__(self, histogram: BatchHistogram, buckets: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = buckets
        self._counts = [0] * (len(buckets) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """One more observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    @property
    def counts(self) -> Sequence[int]:
        """How many fell into each bucket since the last ``flush``; the last is what was longer than all of them."""
        return self._counts

    def flush(self) -> int:
        """Hand over what was added; how many observations that were."""
        if added := sum(self._counts):
            self._histogram.observe_all(self._counts, self._total)
            self._counts = [0] * len(self._counts)
            self._total = 0.0
        return added


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value that this share of the observations stays below, as Prometheus' ``histogram_quantile`` estimates it.

    ``counts`` are those of each bucket, one more than ``bounds``: what is over all of them counts as the highest.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    below = 0
    for lower, upper, count in zip((0.0, *bounds), bounds, counts, strict=False):
        if below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return bounds[-1]


def received_at(event: UUID) -> float:
    """When the event was received, in seconds since 1970: its id is a UUID of version 7 and begins with it."""
    return (event.int >> 80) / 1000
