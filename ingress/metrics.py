"""What ingress counts. Labels are bounded: providers of the registry, statuses of the refusal table."""

import asyncio
import os
from collections import Counter as Counts
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from shared.measuring import LATENCY_BUCKETS, BatchHistogram, Observations
from shared.metric_files import page_of
from shared.settings_metrics import settings_metrics
from shared.watching import ConfigurationWatch


STORES: Final = ("postgres", "redis")
BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)

FLUSH_SECONDS: Final = 1.0
"""How long a figure may stay behind: far less than a scrape's interval."""


class IngressMetrics:
    """The ingress's own figures; made once a registry. Answers show after FLUSH_SECONDS."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._answers = Counter(
            "penstock_ingress_answers",
            "Answers to deliveries",
            ("provider", "status", "durability"),
            registry=registry,
        )
        self._seconds = BatchHistogram(
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
        self._away = Gauge(
            "penstock_store_away",
            "1 while ingress works without this store",
            ("store",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        for store in STORES:
            self._away.labels(store).set(0)
        self._settings = settings_metrics(registry)
        self._kept: dict[tuple[str, int, str], Observations] = {}
        self._refused: Counts[tuple[str, int]] = Counts()
        self._untold: dict[str, list[int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def settings(self, watch: ConfigurationWatch) -> None:
        """Whether the settings in force are those of the file."""
        self._settings.show(watch)

    def kept(self, provider: str, status: int, durability: str, seconds: float) -> None:
        """An event was acknowledged."""
        key = (provider, status, durability)
        if (kept := self._kept.get(key)) is None:
            kept = self._kept[key] = Observations(self._seconds.labels(provider), LATENCY_BUCKETS)
        kept.add(seconds)
        if self._timer is None:
            self._flush_soon()

    def refused(self, provider: str, status: int) -> None:
        """A request was refused; ``provider`` is empty for an unknown route."""
        self._refused[provider, status] += 1
        if self._timer is None:
            self._flush_soon()

    def flush(self) -> None:
        """Show what was counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (provider, status, durability), kept in self._kept.items():
            self.add_acknowledged({provider: kept.counts})
            self._answers.labels(provider, str(status), durability).inc(kept.flush())
        refused, self._refused = self._refused, Counts()
        for (provider, status), count in refused.items():
            self._answers.labels(provider, str(status), "none").inc(count)

    def take_acknowledged(self) -> dict[str, list[int]]:
        """How many acknowledgements fell into each of LATENCY_BUCKETS since this was asked last, by provider."""
        taken, self._untold = self._untold, {}
        return {provider: counts for provider, counts in taken.items() if any(counts)}

    def add_acknowledged(self, acknowledged: Mapping[str, Sequence[int]]) -> None:
        """To be taken the next time: what is new, and what was taken and could not be told."""
        for provider, counts in acknowledged.items():
            untold = self._untold.setdefault(provider, [0] * len(counts))
            for bucket, count in enumerate(counts):
                untold[bucket] += count

    def spooled(self, events: int, set_aside: int) -> None:
        """So much is in the spool."""
        self._spool.set(events)
        self._set_aside.set(set_aside)

    def away(self, stores: Collection[str]) -> None:
        """These stores are known not to answer."""
        for store in STORES:
            self._away.labels(store).set(store in stores)

    def committed(self, events: int) -> None:
        """A batch was committed."""
        self._batch.observe(events)

    def _flush_soon(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)


def serve_metrics(port: int, host: str) -> None:
    """Answer ``/metrics`` on a port of its own; with PROMETHEUS_MULTIPROC_DIR set, for all processes that share it."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = page_of(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    else:
        registry = REGISTRY
    start_http_server(port, host, registry)
