"""What the relay shows of the whole installation: the backlog, budgets, circuits, silence, and that it lives itself.

Only here, every few seconds, by look-ups that cost the same however many events there are: no scrape asks a store.
Accounts are those of the settings, and of these ``MOST_ACCOUNTS`` a provider.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from shared.settings_metrics import settings_metrics
from shared.store.lifecycle import EVENT_STATES
from shared.store.stuck import Unplanned
from shared.watching import ConfigurationWatch


MOST_ACCOUNTS: Final = 200
TROUBLES: Final = ("down", "refused")


class RelayMetrics:
    """The gauges of the relay. Several relays ask the same stores: whoever asked last is right."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(name, about, labels, multiprocess_mode="livemostrecent", registry=registry)

        self._ticked = gauge(
            "penstock_relay_ticked_timestamp_seconds", "Since when a relay has drained, queued and woken all it had to"
        )
        self._duty = gauge(
            "penstock_relay_duty_succeeded_timestamp_seconds",
            "When a duty of the relay last succeeded, or its relay began",
            "duty",
        )
        self._events = gauge("penstock_events", "Events by state", "provider", "state")
        self._oldest = gauge(
            "penstock_oldest_due_seconds", "For how long the oldest work that could be done has been due", "provider"
        )
        self._unplanned = gauge(
            "penstock_unplanned_oldest_seconds",
            "For how long the next event to be planned has stood without a step",
            "provider",
        )
        self._failing = gauge(
            "penstock_worker_failing_seconds",
            "For how long a worker process has only failed, of all the longest",
            "provider",
        )
        self._queue = gauge("penstock_queue_messages", "Messages that wait for a worker, in Redis", "queue")
        self._workers = gauge("penstock_worker_processes", "Processes whose lease is in force", "provider")
        self._budget = gauge(
            "penstock_budget_left_ratio", "What is left of the account's fullest budget, 0 to 1", "provider", "account"
        )
        self._circuit = gauge(
            "penstock_circuit_open",
            "1 while the account's API is not called: it is down, or refused the credentials",
            "provider",
            "account",
            "trouble",
        )
        self._silent = gauge(
            "penstock_account_silent", "1 while no delivery came for longer than is usual", "provider", "account"
        )
        self._handover_age = gauge(
            "penstock_handover_oldest_due_seconds", "For how long the oldest hand-over has been due", "handler"
        )
        self._parked = gauge("penstock_handovers_parked", "Hand-overs that wait for a person, up to 10,000", "handler")
        self._retention = gauge(
            "penstock_retention_refused", "What retention does not remove until somebody has looked at it"
        )
        self._settings = settings_metrics(registry)
        self._open: set[tuple[str, str, str]] = set()
        self._handlers: set[str] = set()
        self._planned: set[str] = set()

    def ticked(self, at: float) -> None:
        """All that is promised has been done at this time (seconds since 1970) or later."""
        self._ticked.set(at)

    def duty(self, name: str, at: float) -> None:
        """A duty has succeeded at this time (seconds since 1970)."""
        self._duty.labels(name).set(at)

    def unplanned(self, found: Iterable[Unplanned]) -> None:
        """The event of each provider that has stood longest without a step; of the others there is none."""
        seconds = {each.provider: each.seconds for each in found}
        for provider in self._planned.union(seconds):
            self._unplanned.labels(provider).set(seconds.get(provider, 0.0))
        self._planned |= seconds.keys()

    def failing(self, seconds: Mapping[str, float]) -> None:
        """For how long a process that follows up each provider's events has only failed."""
        for provider, longest in seconds.items():
            self._failing.labels(provider).set(longest)

    def settings(self, watch: ConfigurationWatch) -> None:
        """Whether the settings in force are those of the file."""
        self._settings.show(watch)

    def backlog(self, progress: Iterable[Mapping[str, Any]]) -> None:
        """What ``shared.store.tallying.progress`` found."""
        for found in progress:
            provider = found["provider"]
            self._oldest.labels(provider).set(found["oldest_due_seconds"] or 0.0)
            for state in EVENT_STATES:
                self._events.labels(provider, state).set(found["events"].get(state, 0))

    def queues(self, lengths: Mapping[str, int]) -> None:
        """So many messages wait on each queue."""
        for queue, messages in lengths.items():
            self._queue.labels(queue).set(messages)

    def workers(self, processes: Mapping[str, int]) -> None:
        """So many processes follow up each provider's events, or hand over."""
        for provider, count in processes.items():
            self._workers.labels(provider).set(count)

    def budget(self, provider: str, account: str, left: float) -> None:
        """So much of an account's budget is left, 0 to 1."""
        self._budget.labels(provider, account).set(left)

    def circuits(self, opened: Collection[tuple[str, str, str]]) -> None:
        """These (provider, account, trouble) are open and no others."""
        for known in self._open.difference(opened):
            # A label cannot be taken back from figures in files.
            self._circuit.labels(*known).set(0)
        for each in opened:
            self._circuit.labels(*each).set(1)
        self._open |= set(opened)

    def silent(self, accounts: Mapping[tuple[str, str], bool]) -> None:
        """Which accounts are silent and which speak."""
        for (provider, account), is_silent in accounts.items():
            self._silent.labels(provider, account).set(is_silent)

    def retention(self, refused: int) -> None:
        """So much is not removed until somebody has looked at it."""
        self._retention.set(refused)

    def handlers(self, found: Mapping[str, tuple[float, int]]) -> None:
        """By handler: for how long its oldest hand-over has been due, and how many are parked."""
        for name in self._handlers.difference(found):
            self._handover_age.labels(name).set(0)
            self._parked.labels(name).set(0)
        for name, (seconds, parked) in found.items():
            self._handover_age.labels(name).set(seconds)
            self._parked.labels(name).set(parked)
        self._handlers |= set(found)


@cache
def relay_metrics() -> RelayMetrics:
    """Those of this process."""
    return RelayMetrics()
