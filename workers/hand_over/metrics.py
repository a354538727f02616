"""What handing over measures. Labels are bounded: the handlers of the settings and of the installed packages."""

from collections import Counter as Counts
from collections.abc import Sequence
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from shared.store.handovers.handing_over import Delivered


class HandOverMetrics:
    """The figures of one process that hands over; made once a registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._outcomes = Counter(
            "penstock_handovers",
            "Attempts to hand a change over: ok, retried, parked, removed (the change is not kept any more), or gone"
            " (the endpoint said so, and gets nothing more)",
            ("handler", "outcome"),
            registry=registry,
        )

    def settled(self, handler: str, results: Sequence[Delivered]) -> None:
        """These are written down."""
        for outcome, count in Counts(map(_outcome, results)).items():
            self._outcomes.labels(handler, outcome).inc(count)


@cache
def hand_over_metrics() -> HandOverMetrics:
    """Those of this process."""
    return HandOverMetrics()


def _outcome(result: Delivered) -> str:
    if result.stop:
        return "gone"
    return {"done": "ok", "waiting": "retried", "parked": "parked", "discarded": "removed"}[result.state]
