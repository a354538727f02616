"""The benchmarks by name, in the order in which they run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ops.bench.benchmarks.acknowledging import latency, throughput
from ops.bench.benchmarks.consoling import console
from ops.bench.benchmarks.fairness import fairness
from ops.bench.benchmarks.following_up import receipt_to_record, time_to_result
from ops.bench.benchmarks.growing import growth
from ops.bench.benchmarks.refreshing import refresh
from ops.bench.benchmarks.resisting import flood, key_timing
from ops.bench.benchmarks.scaling import scale
from ops.bench.benchmarks.weighing import idle, large_body
from ops.bench.results import Report
from ops.bench.stage import Stage


Benchmark = Callable[[Stage], Sequence[Report]]

BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "idle": idle,
    "ack-throughput": throughput,
    "ack-latency": latency,
    "receipt-to-record": receipt_to_record,
    "time-to-result": time_to_result,
    "fairness": fairness,
    "paybook-refresh": refresh,
    "worker-memory": refresh,
    "large-body": large_body,
    "flood": flood,
    "key-timing": key_timing,
    "growth": growth,
    "console": console,
    "scale": scale,
}
"""A benchmark may answer for two names: what it reports for both is measured once."""

NOT_IN_QUICK: Final = frozenset({"fairness", "console", "scale"})
"""``--quick`` is under two minutes; these are its slowest, and run in it when ``--only`` names them."""

QUICK_GIVES_UP: Final[Mapping[str, str]] = {
    "idle": "one look of 3 s after 2 s",
    "ack-throughput": "2 rounds of 1 s",
    "ack-latency": "one round of 2 s a rate: the p99 of 60/s is that of 120 deliveries",
    "receipt-to-record": "2 rounds of 2,000 deliveries, of which much is the start and the end of the backlog",
    "time-to-result": "one round of 240 deliveries",
    "fairness": "one round of 4 s each: the p99 is that of 152 deliveries",
    "paybook-refresh": "one round of 60,000 rows in place of 1,000,000",
    "worker-memory": "60,000 rows: a process has not seen its fill of pages",
    "large-body": "2 rounds of 1.5 s",
    "flood": "one round of 3 s each: the p99 is that of 300 deliveries",
    "key-timing": "one round of 20,000 samples in place of five of 100,000: a small leak is not seen",
    "growth": "100,000 finished events in place of 10,000,000, one round: it shows that all works, not how it grows",
    "console": "100,000 events in place of 10,000,000: it shows that all works, not how it grows",
    "scale": "one round of 2,000 deliveries: starts and ends of backlogs are a large part of it",
}
"""What a figure of ``--quick`` does not say."""
