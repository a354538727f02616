"""The simulation of installations: what queues must do whatever the service times are."""

import pytest

from ops.bench.simulation import Station, closed, opened, shares


ONE_MACHINE = {"machine": 2}


def test_at_most_what_the_scarcest_station_can_do() -> None:
    """One place of 10 ms an event is 100 events a second, however fast the others are."""
    stations = [Station("fast", 0.001, 8, "machine"), Station("slow", 0.01, 1, "machine")]

    found = closed([stations], ONE_MACHINE, events=2000, at_once=64)

    assert 100 == pytest.approx(found.rate, rel=0.05)


def test_stations_that_share_a_machine_share_its_processors() -> None:
    """Two processors, 4 ms of work an event: 500 events a second, and nothing is idle."""
    stations = [Station("a", 0.001, 64, "machine"), Station("b", 0.003, 64, "machine")]

    found = closed([stations], ONE_MACHINE, events=4000, at_once=64)

    assert 500 == pytest.approx(found.rate, rel=0.05)
    assert 1 == pytest.approx(found.busy["machine"], abs=0.05)


def test_two_installations_share_a_machine_but_not_their_processes() -> None:
    """Each has one place of 10 ms: twice the rate of one, as long as the machine has two processors."""
    paths = [[Station(f"{name} slow", 0.01, 1, "machine")] for name in ("first", "second")]

    assert 200 == pytest.approx(closed(paths, ONE_MACHINE, events=2000, at_once=64).rate, rel=0.05)
    assert 100 == pytest.approx(closed(paths, {"machine": 1}, events=2000, at_once=64).rate, rel=0.05)


def test_far_below_its_limit_an_event_takes_its_service_time() -> None:
    """Nobody waits; the rate is that of the arrivals."""
    found = opened([[Station("a", 0.01, 4, "machine")]], ONE_MACHINE, rate=5.0, events=2000)

    assert 5 == pytest.approx(found.rate, rel=0.1)
    assert 10 == pytest.approx(found.p50_ms, rel=0.1)


def test_near_its_limit_events_wait() -> None:
    """The 99th percentile rises long before the rate stops rising."""
    station = [Station("a", 0.01, 1, "machine")]
    calm, busy = (opened([station], ONE_MACHINE, rate=rate, events=4000) for rate in (20.0, 95.0))

    assert busy.p99_ms > 3 * calm.p99_ms


def test_each_shard_gets_its_share_but_none_is_smaller_than_its_largest_account() -> None:
    """An account is never divided."""
    held = shares(10_000, 10, largest=0.25)

    assert 1 == pytest.approx(sum(held))
    assert max(held) >= 0.25
    assert 10 == len(held)
    assert max(shares(10_000, 10, largest=0.001)) < 0.13
