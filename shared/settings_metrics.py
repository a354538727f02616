"""Whether the settings in force are those of the file, as every long-running process shows it."""

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from shared.watching import ConfigurationWatch


class SettingsMetrics:
    """The two gauges; ``settings_metrics`` makes them once a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, about: str) -> Gauge:
            return Gauge(name, about, multiprocess_mode="livemax", registry=registry)

        self._refused = gauge(
            "penstock_settings_refused", "1 while penstock.toml is not valid, and the settings before it are in force"
        )
        self._vanished = gauge(
            "penstock_settings_vanished",
            "Accounts, handlers and settings that were in force and are not in penstock.toml, nor removed",
        )

    def show(self, watch: ConfigurationWatch) -> None:
        """As it is now."""
        self._refused.set(watch.problem is not None)
        self._vanished.set(watch.missing)


@cache
def settings_metrics(registry: CollectorRegistry = REGISTRY) -> SettingsMetrics:
    """Those of a registry, whichever part of the process shows them."""
    return SettingsMetrics(registry)
