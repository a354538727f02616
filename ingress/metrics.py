"""What ingress counts. Labels are bounded: providers of the registry, statuses of the refusal table."""

import asyncio
import os
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector


LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)


FLUSH_SECONDS: Final = 1.0
"""How long a figure of a success may stay behind: far less than a scrape's interval."""


class _Histogram(Histogram):
    """A histogram that takes many observations at once."""

    def observe_all(self, counts: Sequence[int], total: float) -> None:
        """So many observations fell into each bucket (the last is +Inf); ``total`` is their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class _Tally:
    """What is counted between two flushes: with figures in files, each increment is a lock and a write."""

    def __init__(self, answers: Counter, seconds: _Histogram) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS) + 1)
        self.total = 0.0
        self._answers = answers
        self._seconds = seconds

    def flush(self) -> None:
        """Hand over what was counted."""
        if answers := sum(self.counts):
            self._answers.inc(answers)
            self._seconds.observe_all(self.counts, self.total)
            self.counts = [0] * len(self.counts)
            self.total = 0.0


class IngressMetrics:
    """The ingress's own figures; made once a registry. Successes show after FLUSH_SECONDS."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._answers = Counter(
            "penstock_ingress_answers",
            "Answers to deliveries",
            ("provider", "status", "durability"),
            registry=registry,
        )
        self._seconds = _Histogram(
            "penstock_ingress_answer_seconds",
            "From the end of a delivery's headers to its acknowledgement",
            ("provider",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._batch = Histogram(
            "penstock_ingress_commit_events",
            "Events kept in one transaction",
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        # Every ingress process asks the same Redis: whoever asked last is right.
        self._spool = Gauge(
            "penstock_spool_events",
            "Events in the spool, which the relay moves into Postgres",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._set_aside = Gauge(
            "penstock_spool_set_aside_events",
            "Entries of the spool that could not be kept and wait for a person",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._tallies: dict[tuple[str, int, str], _Tally] = {}
        self._timer: asyncio.TimerHandle | None = None

    def kept(self, provider: str, status: int, durability: str, seconds: float) -> None:
        """An event was acknowledged."""
        key = (provider, status, durability)
        if (tally := self._tallies.get(key)) is None:
            answers = self._answers.labels(provider, str(status), durability)
            tally = self._tallies[key] = _Tally(answers, self._seconds.labels(provider))
        tally.counts[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        tally.total += seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Show what was counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for tally in self._tallies.values():
            tally.flush()

    def refused(self, provider: str, status: int) -> None:
        """A request was refused; ``provider`` is empty for an unknown route."""
        self._answers.labels(provider, str(status), "none").inc()

    def spooled(self, events: int, set_aside: int) -> None:
        """So much is in the spool."""
        self._spool.set(events)
        self._set_aside.set(set_aside)

    def committed(self, events: int) -> None:
        """A batch was committed."""
        self._batch.observe(events)


def serve_metrics(port: int, host: str) -> None:
    """Answer ``/metrics`` on a port of its own; with PROMETHEUS_MULTIPROC_DIR set, for all processes that share it."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry = REGISTRY
    start_http_server(port, host, registry)
