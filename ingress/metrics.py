"""What ingress counts. Labels are bounded: providers of the registry, statuses of the refusal table."""

import os
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector


LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class IngressMetrics:
    """The ingress's own figures; made once a registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._answers = Counter(
            "penstock_ingress_answers",
            "Answers to deliveries",
            ("provider", "status", "durability"),
            registry=registry,
        )
        self._seconds = Histogram(
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
        # Looking a child up by its labels costs more than counting; there are few of them.
        self._kept: dict[tuple[str, int, str], tuple[Counter, Histogram]] = {}

    def kept(self, provider: str, status: int, durability: str, seconds: float) -> None:
        """An event was acknowledged."""
        key = (provider, status, durability)
        if (children := self._kept.get(key)) is None:
            children = self._answers.labels(provider, str(status), durability), self._seconds.labels(provider)
            self._kept[key] = children
        answers, latency = children
        answers.inc()
        latency.observe(seconds)

    def refused(self, provider: str, status: int) -> None:
        """A request was refused; ``provider`` is empty for an unknown route."""
        self._answers.labels(provider, str(status), "none").inc()

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
