"""What following up measures. Labels are bounded: providers of the registry, classes of statuses, ends of attempts."""

import time
from collections import Counter as Counts
from collections.abc import Sequence
from functools import cache
from typing import Final
from uuid import UUID

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from shared.measuring import LATENCY_BUCKETS, WAIT_BUCKETS, BatchHistogram, Observations, received_at
from shared.store.fetching import Result
from shared.store.planning import ClaimedEvent


ATTEMPT_BUCKETS: Final = (1, 2, 3, 5, 10, 20, 50)


class FollowUpMetrics:
    """The figures of one process that follows up; made once a registry. Calls show when they are stored."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._queue = _histogram(registry, "penstock_queue_seconds", "From receipt until a worker takes the event up")
        self._fetch = BatchHistogram(
            "penstock_fetch_seconds",
            "One call to a provider's API, with the reading of its answer",
            ("provider",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._apply = BatchHistogram(
            "penstock_apply_seconds",
            "The transaction that stores what calls brought, together with their state",
            ("provider",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._result = _histogram(registry, "penstock_result_seconds", "From receipt until everything asked for is in")
        self._calls = Counter(
            "penstock_api_calls", "Calls to providers, by class of status", ("provider", "status"), registry=registry
        )
        self._ends = Counter(
            "penstock_fetch_ends",
            "What came of fetches that were taken up: done, failed, again (a later attempt) or put-off (no call made)",
            ("provider", "end"),
            registry=registry,
        )
        self._aside = Counter(
            "penstock_rows_set_aside",
            "Rows of answers that could not be read or stored; their neighbours were",
            ("provider",),
            registry=registry,
        )
        self._put_off = Counter(
            "penstock_events_put_off",
            "Times that an event could not be read yet, because a store of ours did not answer",
            ("provider",),
            registry=registry,
        )
        self._attempts = BatchHistogram(
            "penstock_fetch_attempts",
            "Attempts that a fetch took until it was done or failed",
            ("provider",),
            buckets=ATTEMPT_BUCKETS,
            registry=registry,
        )
        self._called: Counts[tuple[str, str]] = Counts()
        self._fetched: dict[str, Observations] = {}

    def taken_up(self, provider: str, events: Sequence[ClaimedEvent]) -> None:
        """A batch of events was claimed; what is replayed or reconciled waited for its turn and not for a worker."""
        now = time.time()
        waits = Observations(self._queue.labels(provider), WAIT_BUCKETS)
        for event in events:
            if not event.background:
                waits.add(max(0.0, now - received_at(event.id)))
        waits.flush()

    def put_off(self, provider: str, events: int) -> None:
        """So many events are read again later."""
        if events:
            self._put_off.labels(provider).inc(events)

    def called(self, provider: str, status: int | None, seconds: float) -> None:
        """A call ended, ``status`` None without an answer."""
        self._called[provider, f"{status // 100}xx" if status else "none"] += 1
        if (fetched := self._fetched.get(provider)) is None:
            fetched = self._fetched[provider] = Observations(self._fetch.labels(provider), LATENCY_BUCKETS)
        fetched.add(seconds)

    def stored(self, results: Sequence[Result], seconds: float) -> None:
        """A batch of one provider's results was committed, which took so long."""
        called, self._called = self._called, Counts()
        for (provider, status), calls in called.items():
            self._calls.labels(provider, status).inc(calls)
        for fetched in self._fetched.values():
            fetched.flush()
        if not results:
            return
        provider = results[0].fetch.provider
        self._apply.labels(provider).observe(seconds)
        attempts = Observations(self._attempts.labels(provider), ATTEMPT_BUCKETS)
        for end, count in Counts(map(_end, results)).items():
            self._ends.labels(provider, end).inc(count)
        if aside := sum(len(result.outcome.set_aside) for result in results):
            self._aside.labels(provider).inc(aside)
        for result in results:
            if result.state != "waiting":
                attempts.add(result.fetch.attempts)
        attempts.flush()

    def done(self, provider: str, events: Sequence[UUID]) -> None:
        """A batch of events is done."""
        if events:
            now = time.time()
            waits = Observations(self._result.labels(provider), WAIT_BUCKETS)
            for event in events:
                waits.add(max(0.0, now - received_at(event)))
            waits.flush()


@cache
def follow_up_metrics() -> FollowUpMetrics:
    """Those of this process."""
    return FollowUpMetrics()


def _histogram(registry: CollectorRegistry, name: str, about: str) -> BatchHistogram:
    return BatchHistogram(name, about, ("provider",), buckets=WAIT_BUCKETS, registry=registry)


def _end(result: Result) -> str:
    if result.state != "waiting":
        return result.state
    return "again" if result.called else "put-off"
