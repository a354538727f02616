"""What the screen of `penstock up` reads every second."""

import asyncpg
import pytest

from shared.store.tallying import progress
from steps import Receive, claim_events, plan, worker


pytestmark = pytest.mark.anyio


async def test_each_provider_is_told_with_its_states_and_the_age_of_its_oldest_work(
    db: asyncpg.Connection, receive: Receive
) -> None:
    """Also one that never had an event; what is not asked for is left out."""
    process = await worker(db)
    await receive(3)
    await receive(1, provider="paybook")
    await plan(db, process)
    await receive(2)

    imin, magicline = await progress(db, ["imin", "magicline"])

    assert {"done": 3, "received": 2} == {state: count for state, count in imin["events"].items() if count}
    assert 0 <= imin["oldest_due_seconds"] < 60
    assert {"provider": "magicline", "events": {}, "oldest_due_seconds": None} == magicline
    assert 2 == len(await claim_events(db, process))
