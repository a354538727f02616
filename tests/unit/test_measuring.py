"""Percentiles out of the buckets of a histogram."""

import pytest

from shared.measuring import quantile


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([10, 0, 0, 0], 0.5, 0.5),
        ([0, 10, 0, 0], 0.5, 1.5),
        ([50, 49, 1, 0], 0.99, 2.0),
        ([50, 0, 50, 0], 0.99, 3.96),
        ([0, 0, 0, 7], 0.5, 4.0),
    ],
)
def test_a_percentile_is_estimated_within_its_bucket(counts: list[int], share: float, value: float | None) -> None:
    """As Prometheus does it: evenly spread within a bucket; beyond the last bound, that bound."""
    found = quantile((1.0, 2.0, 4.0), counts, share)
    assert value == (found if found is None else pytest.approx(found))
