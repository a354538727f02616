"""What the bench's tests share."""

import pytest

from ops.bench.results import Figure, Report, over
from ops.bench.statistics import Target


@pytest.fixture
def report() -> Report:
    """A benchmark with a ratio that is reached, one that is not, and a plain figure."""
    return Report(
        "ack-throughput",
        "Acknowledged <deliveries> & more",
        [
            over("over bare", [45.0, 44.0], [100.0, 100.0], Target(0.4, at_least=True)),
            over("over usual", [45.0, 44.0], [9.0, 9.0], Target(20, at_least=True)),
            Figure("penstock", "events/s", [45.0, 44.0]),
        ],
        {"body": "200 bytes"},
    )
