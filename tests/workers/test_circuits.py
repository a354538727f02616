"""Accounts' circuits, shared by all workers through a real Redis."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from ops.embedded.redis import Redis
from shared.budgets import Budgets
from shared.circuits import FAILURES_TO_OPEN, Circuits, interval
from shared.errors import StoreAway
from shared.providers.account import AccountSettings


pytestmark = pytest.mark.anyio


@pytest.fixture
async def both(redis: Redis) -> AsyncIterator[tuple[Circuits, Circuits]]:
    """Circuits as two worker processes see them."""
    mine, other = Budgets(redis.url), Budgets(redis.url)
    yield mine.circuits, other.circuits
    await mine.close()
    await other.close()


def account() -> AccountSettings:
    """An account that no other test uses."""
    return AccountSettings(name=f"a{uuid.uuid4().hex}", base_url="https://api.example.com")


@pytest.mark.parametrize(("trouble", "failures"), [("down", 10), ("refused", 3)])
async def test_it_opens_when_failures_follow_each_other_whoever_sees_them(
    both: tuple[Circuits, Circuits], trouble: str, failures: int
) -> None:
    """Two processes count together; what fails after that finds it open."""
    mine = account()

    opened = [
        await both[number % 2].failed("p", mine, trouble, "it answered 503", 300)  # type: ignore[arg-type]
        for number in range(failures + 2)
    ]

    assert [False] * (failures - 1) + [True] * 3 == opened
    circuit = await both[0].get("p", mine)
    assert circuit is not None
    assert (trouble, "it answered 503") == (circuit.trouble, circuit.why)
    assert 270 < circuit.next_probe_seconds <= 300


async def test_a_success_between_begins_the_count_anew(both: tuple[Circuits, Circuits]) -> None:
    """An API of which half the calls fail is not down, also when another process sees the successes."""
    mine, (here, there) = account(), both
    for _ in range(5):
        for _ in range(FAILURES_TO_OPEN["down"] - 1):
            await here.failed("p", mine, "down", "503", 5)
        there.know_of_failures("p", mine)
        await there.succeeded("p", mine)

    assert await here.get("p", mine) is None


async def test_one_probe_an_interval_however_many_ask(both: tuple[Circuits, Circuits]) -> None:
    """Whoever takes it has it; if that process dies, another takes the next one."""
    mine = account()
    await both[0].open("p", mine, "down", "503", 300)
    assert {0} == {await each.begin_probe("p", mine, 300) for each in both}
    await both[0].put_off_probe("p", mine, 0.001)
    await asyncio.sleep(0.01)

    first = [await each.begin_probe("p", mine, 300) for each in both * 10]
    await both[0].put_off_probe("p", mine, 0.001)
    await asyncio.sleep(0.01)
    second = [await each.begin_probe("p", mine, 300) for each in both * 10]

    assert [1, *[0] * 19] == first
    assert [2, *[0] * 19] == second


async def test_a_probe_that_failed_puts_the_next_one_off(both: tuple[Circuits, Circuits]) -> None:
    """It stays open; opening it again changes neither the time nor whose probe it is."""
    mine = account()
    await both[0].open("p", mine, "down", "503", 0.001)
    await asyncio.sleep(0.01)
    assert 1 == await both[0].begin_probe("p", mine, 30)
    await both[0].open("p", mine, "refused", "401", 0.001)
    await both[0].put_off_probe("p", mine, 60)

    circuit = await both[1].get("p", mine)

    assert circuit is not None
    assert ("refused", "401") == (circuit.trouble, circuit.why)
    assert 30 < circuit.next_probe_seconds <= 60


async def test_it_closes_once_and_forgets_the_failures(both: tuple[Circuits, Circuits]) -> None:
    """The first to close it is told; after that a single failure opens nothing."""
    mine = account()
    for _ in range(20):
        await both[0].failed("p", mine, "down", "503", 5)

    closed = [await each.close("p", mine) for each in both]

    assert [True, False] == closed
    assert await both[0].get("p", mine) is None
    assert await both[0].failed("p", mine, "down", "503", 5) is False


async def test_those_that_were_opened_are_known_until_they_are_closed(both: tuple[Circuits, Circuits]) -> None:
    """An open one cannot be forgotten, one that is not configured any more can."""
    mine, gone = account(), account()
    for each in (mine, gone):
        await both[0].open("p", each, "down", "503", 5)

    await both[1].forget("p", mine.name, mine)
    await both[1].forget("p", gone.name, None)
    known = await both[1].opened()
    await both[0].close("p", mine)

    assert (True, False) == (("p", mine.name) in known, ("p", gone.name) in known)
    assert ("p", mine.name) not in await both[1].opened()


def test_probes_come_less_and_less_often() -> None:
    """An API that is down is asked every quarter of a minute at the least, refused credentials every five minutes."""
    assert [5, 10, 15, 15] == [interval("down", number, 5) for number in range(1, 5)]
    assert [5, 10, 20, 300] == [interval("refused", number, 5) for number in (1, 2, 3, 1000)]
    assert 60 == interval("down", 1, 60)


async def test_a_redis_that_is_away_is_named_without_its_password() -> None:
    """By every method."""
    budgets = Budgets("redis://:secret@127.0.0.1:1/0")

    with pytest.raises(StoreAway, match=r"redis://@127\.0\.0\.1:1/0"):
        await budgets.circuits.failed("p", account(), "down", "503", 5)

    await budgets.close()
