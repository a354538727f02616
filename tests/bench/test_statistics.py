"""Rounds, and what they let one conclude."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.results import Figure, Report, over
from ops.bench.statistics import Target, Verdict, percentile, spread, verdict


AT_LEAST_10 = Target(10, at_least=True)
AT_MOST_10 = Target(10, at_least=False)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_a_percentile_is_the_first_value_that_covers_its_share(values: list[float], share: float) -> None:
    """Nothing is interpolated: it is one of the values, and no smaller one would do."""
    found = percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values)


def test_the_slowest_one_in_a_hundred_is_the_p99() -> None:
    """The 99th of 100 values."""
    assert 99 == percentile(range(1, 101), 0.99)


@pytest.mark.parametrize(
    ("rounds", "target", "said"),
    [
        ([11, 12, 11.5], AT_LEAST_10, Verdict.MET),
        ([9, 8, 8.5], AT_LEAST_10, Verdict.MISSED),
        ([9, 8, 8.5], AT_MOST_10, Verdict.MET),
        ([11, 12, 11.5], AT_MOST_10, Verdict.MISSED),
        ([9.9, 10.1, 10.2], AT_LEAST_10, Verdict.MET),
        ([5, 11, 18], AT_LEAST_10, Verdict.NOISY),
        ([20, 60, 90], AT_LEAST_10, Verdict.MET),
        ([20, 60, 90], None, Verdict.NOISY),
        ([20, 21, 22], None, Verdict.MEASURED),
    ],
)
def test_rounds_conclude_unless_they_lie_far_apart_around_the_target(
    rounds: list[float], target: Target | None, said: Verdict
) -> None:
    """Wherever all of them lie on one side, noise changes nothing."""
    assert said == verdict(rounds, target)


def test_spread_is_a_share_of_the_median() -> None:
    """From the lowest to the highest."""
    assert pytest.approx(0.2) == spread([9, 10, 11])


def test_a_ratio_is_formed_round_by_round() -> None:
    """A machine that halves its speed between two rounds halves both sides: the ratio stays."""
    assert [0.5, 0.5] == list(over("over bare", [50, 25], [100, 50]).rounds)


def test_on_a_busy_machine_nothing_is_called_missed(report: Report) -> None:
    """What is reached in spite of it stands."""
    busy = Report(report.benchmark, report.title, report.figures, report.conditions, others=0.9)

    assert [Verdict.MET, Verdict.MISSED] == [report.verdict(figure) for figure in report.figures[:2]]
    assert [Verdict.MET, Verdict.NOISY] == [busy.verdict(figure) for figure in report.figures[:2]]


def test_a_yardstick_that_is_not_steady_says_that_the_machine_is_not() -> None:
    """The same program on a quiet machine is as fast each time; figures that are reached stand all the same."""
    rounds = [(20.0, 100.0), (30.0, 60.0), (20.0, 100.0)]
    ours, theirs = [mine for mine, _ in rounds], [other for _, other in rounds]
    missed = Figure("p99", "ms", [30.0, 31.0, 30.0], AT_MOST_10)
    reached = Figure("p50", "ms", [3.0, 3.1, 3.0], AT_MOST_10)

    steady = Report(
        "one", "One", [missed, reached, Figure("bare", "events/s", [100.0, 99.0, 98.0], yardstick=True)], {}
    )
    restless = Report("one", "One", [missed, reached, Figure("bare", "events/s", theirs, yardstick=True)], {})
    own = Report("one", "One", [missed, Figure("penstock", "events/s", ours)], {})

    assert ["", "", Verdict.MISSED] == [steady.disturbed, own.disturbed, steady.verdict(missed)]
    assert "the rounds of bare lie 40 % apart" in restless.disturbed
    assert [Verdict.NOISY, Verdict.MET] == [restless.verdict(missed), restless.verdict(reached)]
