"""Every figure that the code exports, with its labels, as Prometheus knows it: read off fresh registries."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from ingress.metrics import IngressMetrics
from shared.background import BackgroundMetrics
from workers.follow_up.metrics import FollowUpMetrics
from workers.hand_over.metrics import HandOverMetrics
from workers.health.metrics import WorkerMetrics
from workers.relay.metrics import RelayMetrics


MAKERS: tuple[Callable[[CollectorRegistry], Any], ...] = (
    IngressMetrics,
    BackgroundMetrics,
    FollowUpMetrics,
    HandOverMetrics,
    RelayMetrics,
    lambda registry: WorkerMetrics("worker-imin", registry),
)

_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def exported() -> dict[str, set[str]]:
    """Name of each series -> the names of its labels."""
    registry = CollectorRegistry()
    for make in MAKERS:
        make(registry)
    found: dict[str, set[str]] = {}
    for metric in set(registry._names_to_collectors.values()):
        assert isinstance(metric, MetricWrapperBase)
        # A series that is a label's value of its own is not in the registry; its parent is.
        for suffix in _SUFFIXES[metric._type]:
            labels = {*metric._labelnames, *(("le",) if suffix == "_bucket" else ())}
            found[metric._name + suffix] = labels
    return found
