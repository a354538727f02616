"""The counts behind the console's charts."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy

from operators.rows import event, new_id
from ops.console.pulse import DAY_MINUTES, Pulse
from shared.store.reading.connecting import reading_engine


def test_a_day_is_counted_by_the_minute_in_a_few_statements(store: Any) -> None:
    """Each minute has its own deliveries; to ask for each of the 1,440 alone kept a core busy at every start."""
    now = datetime.now(UTC)
    ages = (timedelta(), timedelta(minutes=70), timedelta(minutes=70), timedelta(hours=23), timedelta(hours=25))
    store.run(*(event(new_id(now - age), received_at=now - age) for age in ages))
    statements: list[str] = []

    async def count() -> dict[int, int | None]:
        engine = reading_engine(store.url)
        sqlalchemy.event.listen(
            engine.sync_engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: statements.append(statement)
        )
        pulse = Pulse(engine)
        running = asyncio.create_task(pulse.run())
        deadline = time.monotonic() + 60
        while None in (found := [bar.received for bar in pulse.bars(minutes=DAY_MINUTES - 5, width=1)]):
            assert time.monotonic() < deadline, f"{found.count(None)} minutes are not counted"
            await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        bars = pulse.bars(minutes=DAY_MINUTES - 5, width=1)
        await engine.dispose()
        return {int((now.timestamp() // 60) - bar.at.timestamp() // 60): bar.received for bar in bars if bar.received}

    assert {0: 1, 70: 2, 23 * 60: 1} == asyncio.run(count())
    assert len([each for each in statements if "events" in each]) < 20
