"""Limits count as the providers do; faults repeat from their seed."""

import pytest

from ops.lab.faults import Fault, Faults, faults_from
from ops.lab.happening import LabError
from ops.lab.limits import Limit, Limits


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_magicline_loses_the_minute_after_the_1001st_call() -> None:
    """1,000 pass; the one over it and everything in the following minute is refused, though the window is over."""
    clock = Clock()
    limits = Limits(clock)

    def admits_at(now: float) -> bool:
        clock.now = now
        return limits.admits("magicline", "berlin", "/v1/customers/{id}")

    assert [admits_at(30.0) for _ in range(1001)] == [True] * 1000 + [False]
    assert [admits_at(89.9), admits_at(90.1)] == [False, True]
    assert [admits_at(100.0) for _ in range(1000)] == [True] * 999 + [False]
    # The window began at 90.1 and would be over at 150.1; the penalty lasts from the call over it until 160.
    assert [admits_at(155.0), admits_at(160.1)] == [False, True]


def test_magicline_counts_each_endpoint_and_each_key_on_its_own() -> None:
    """A full endpoint does not close another one, nor another studio's."""
    limits = Limits(Clock())
    limits.set("magicline", Limit(calls=1, seconds=60, penalty_seconds=60, per_template=True))
    assert limits.admits("magicline", "berlin", "/v1/devices")
    assert not limits.admits("magicline", "berlin", "/v1/devices")
    assert limits.admits("magicline", "berlin", "/v1/customers")
    assert limits.admits("magicline", "hamburg", "/v1/devices")


def test_paybook_takes_five_a_second() -> None:
    """The sixth is refused, the next second is open."""
    clock = Clock()
    limits = Limits(clock)
    assert [True] * 5 + [False] == [limits.admits("paybook", "main", "") for _ in range(6)]
    clock.now = 1.0
    assert limits.admits("paybook", "main", "")


def test_a_lifted_limit_refuses_nothing() -> None:
    """Zero calls mean no limit."""
    limits = Limits(Clock())
    limits.set("paybook", Limit(calls=0, seconds=1))
    assert all(limits.admits("paybook", "main", "") for _ in range(100))


def outcomes(seed: int, paths: list[str]) -> dict[str, list[bool]]:
    """Whether each call of each path met a fault of probability 0.3."""
    faults = Faults(seed)
    faults.set([Fault("status", probability=0.3)])
    found: dict[str, list[bool]] = {}
    for path in paths:
        found.setdefault(path, []).append(faults.decide("paybook", "GET", path) is not None)
    return found


def test_faults_repeat_whatever_the_order_of_the_paths() -> None:
    """What a path meets depends on the seed and on how often it was called."""
    paths = [f"/v1/{number}" for number in range(40)]
    assert outcomes(7, paths * 5) == outcomes(7, [path for path in paths for _ in range(5)])
    assert outcomes(7, paths * 5) != outcomes(8, paths * 5)


def test_a_probability_is_roughly_kept() -> None:
    """0.3 of 1,000 calls."""
    hits = sum(sum(each) for each in outcomes(7, [f"/v1/{number}" for number in range(1000)]).values())
    assert 250 < hits < 350


def test_a_scripted_fault_skips_and_ends() -> None:
    """The second and third call of a path fail, no other."""
    faults = Faults(7)
    faults.set([Fault("drop", path="skip=5000", skip=1, times=2)])
    met = [faults.decide("paybook", "GET", "/v1/transactions?skip=5000") is not None for _ in range(5)]
    assert [False, True, True, False, False] == met
    assert faults.decide("paybook", "GET", "/v1/transactions?skip=0") is None


def test_an_unknown_kind_of_fault_is_refused_with_those_there_are() -> None:
    """One sentence."""
    with pytest.raises(LabError, match="endless-pages"):
        faults_from({"kind": "explode"})
