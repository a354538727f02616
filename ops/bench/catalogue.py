"""The benchmarks by name, in the order in which they run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ops.bench.benchmarks.acknowledging import latency, throughput
from ops.bench.benchmarks.following_up import receipt_to_record, time_to_result
from ops.bench.benchmarks.growing import growth
from ops.bench.benchmarks.refreshing import refresh
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
    "paybook-refresh": refresh,
    "worker-memory": refresh,
    "large-body": large_body,
    "growth": growth,
}
"""A benchmark may answer for two names: what it reports for both is measured once."""
