"""What runs beside a process's work is watched: it says that it failed, and is begun anew."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.background import Background


pytestmark = pytest.mark.anyio


def _failures(name: str) -> float:
    return REGISTRY.get_sample_value("penstock_background_failures_total", {"loop": name}) or 0.0


@pytest.mark.parametrize("error", [KeyError("a fault"), TimeoutError(), OSError("gone"), asyncio.CancelledError()])
async def test_a_loop_that_fails_is_told_counted_and_begun_anew(error: BaseException) -> None:
    """Whatever it was; also a cancellation that nobody asked for."""
    name = f"test {error!r}"
    goes_on = asyncio.Event()
    begun: list[int] = []

    async def loop() -> None:
        begun.append(1)
        if len(begun) < 3:
            raise error
        goes_on.set()
        await asyncio.Event().wait()

    with capture_logs() as told:
        async with Background(first_pause_seconds=0.001) as background:
            task = background.start(name, loop)
            await asyncio.wait_for(goes_on.wait(), 10)
            assert not task.done()

    assert task.cancelled()
    assert 2.0 == _failures(name)
    assert [name, name] == [line["loop"] for line in told if line["event"] == "a background loop failed"]


async def test_a_loop_that_comes_to_its_end_is_not_begun_anew() -> None:
    """It had nothing more to do."""
    begun: list[int] = []

    async def loop() -> None:
        begun.append(1)

    async with Background() as background:
        await background.start("test", loop)

    assert [1] == begun


async def test_work_that_nobody_waits_for_says_that_it_failed() -> None:
    """Once, and it is not begun anew."""

    async def work() -> None:
        raise KeyError

    async with Background() as background:
        await background.once("test once", work())

    assert 1.0 == _failures("test once")


async def test_a_cancellation_that_gets_lost_is_repeated() -> None:
    """The end of a process waits for nobody for ever."""
    lost = iter(range(2))

    async def loop() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if next(lost, None) is None:
                    raise

    background = Background(cancel_again_seconds=0.01)
    task = background.start("test", loop)
    await asyncio.sleep(0)
    await asyncio.wait_for(background.stop(), 10)

    assert task.done()
