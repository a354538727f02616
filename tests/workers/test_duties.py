"""The relay's duties: what one of them raises, or how long it takes, is nothing to the others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from shared.errors import StoreAway
from shared.store import duties as told_duties
from shared.store.duties import Told
from workers.relay.duties import Duties, Duty
from workers.relay.metrics import RelayMetrics


pytestmark = pytest.mark.anyio


@asynccontextmanager
async def kept(*duties: Duty) -> AsyncIterator[tuple[Duties, CollectorRegistry]]:
    """These duties, for the time of the block."""
    registry = CollectorRegistry()
    keeper = Duties(RelayMetrics(registry))
    task = asyncio.create_task(keeper.keep(duties))
    try:
        yield keeper, registry
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


class Rounds:
    """Counts, and does in each round what it is told to."""

    def __init__(self, error: Exception | None = None, *, more: bool = False) -> None:
        self.count = 0
        self.error = error
        self.more = more

    async def __call__(self) -> bool:
        """One round."""
        self.count += 1
        if self.error:
            raise self.error
        return self.more


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        StoreAway("Redis does not answer"),
        OSError(113, "No route to host"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.InsufficientPrivilegeError("permission denied for table relay_duties"),
        KeyError("purpose"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_duty_that_fails_is_tried_again_and_the_others_go_on(error: Exception) -> None:
    """Whatever it raises; that it fails is known by its name, until it succeeds."""
    failing, healthy = Rounds(error), Rounds()
    async with kept(Duty("one", 0.01, failing), Duty("other", 0.01, healthy)) as (duties, _):
        await until(lambda: failing.count > 2 and healthy.count > 2)
        told = {each.duty: each.error for each in duties.told()}
        assert told["one"]
        assert told["other"] is None
        failing.error = None
        await until(lambda: {each.error for each in duties.told()} == {None})


async def test_a_duty_that_never_ends_holds_up_no_other() -> None:
    """Its age grows; the relay is started anew only for what is promised."""
    healthy = Rounds()
    async with kept(Duty("one", 0.01, asyncio.Event().wait), Duty("other", 0.01, healthy, promised=True)) as kept_now:
        await until(lambda: healthy.count > 2)
        duties, _ = kept_now
        ages = {each.duty: each.ago_seconds for each in duties.told()}
        assert ages["one"] > ages["other"]
        assert duties.goes_on


async def test_where_there_is_more_the_next_round_follows_at_once() -> None:
    """Not after its pause."""
    busy = Rounds(more=True)
    async with kept(Duty("one", 3600, busy, more_seconds=0.0)):
        await until(lambda: busy.count > 3)


async def test_each_success_is_a_metric_and_a_tick_is_all_that_is_promised() -> None:
    """Housekeeping that fails leaves the ticks alone."""
    drains, queues = Rounds(), Rounds(StoreAway("away"))
    everything = (Duty("drain", 0.01, drains, promised=True), Duty("queue", 0.01, queues, promised=True))
    async with kept(*everything, Duty("fold", 0.01, Rounds(KeyError("x")))) as (_, registry):
        await until(lambda: drains.count > 2 and queues.count > 2)
        ticked = "penstock_relay_ticked_timestamp_seconds"
        assert 0 == registry.get_sample_value(ticked)
        assert registry.get_sample_value("penstock_relay_duty_succeeded_timestamp_seconds", {"duty": "fold"})
        queues.error = None
        await until(lambda: registry.get_sample_value(ticked))


async def test_of_several_relays_the_last_success_of_any_counts(database_url: str) -> None:
    """One that fails beside one that does not says nothing."""
    connection = await asyncpg.connect(database_url)
    try:
        await told_duties.tell(connection, [Told("one", 5.0, 120.0, None), Told("two", 300.0, 120.0, "took too long")])
        await told_duties.tell(connection, [Told("one", 900.0, 120.0, "permission denied")])
        rows = await connection.fetch(
            "SELECT duty, error, now() - succeeded_at < interval '1 minute' AS fresh FROM relay_duties ORDER BY duty"
        )
        assert [("one", None, True), ("two", "took too long", False)] == [tuple(row) for row in rows]
    finally:
        await connection.close()
