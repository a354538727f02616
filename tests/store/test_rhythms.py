"""Rhythms in the store: who looks, what counts, and when a silence begins and ends."""

import asyncpg
import pytest

from shared.store.gaps import rhythms
from steps import Receive


pytestmark = pytest.mark.anyio

ACCOUNTS = [("imin", "main"), ("imin", "other")]
SPANS = 6.0


async def looked(db: asyncpg.Connection) -> list[rhythms.Silence]:
    """Look as if a minute had passed since the last look."""
    await db.execute("UPDATE rhythms SET looked_at = looked_at - interval '2 minutes'")
    return await rhythms.look(db, ACCOUNTS, SPANS)


async def busy(db: asyncpg.Connection) -> None:
    """The account ``main`` usually speaks all the time."""
    await looked(db)
    await db.execute("UPDATE rhythms SET spans = array_fill(12::real, ARRAY[168]) WHERE account = 'main'")


async def test_a_silence_is_told_when_it_begins_and_when_it_ends(db: asyncpg.Connection, receive: Receive) -> None:
    """Once each, however often is looked."""
    await busy(db)
    await receive()
    assert [] == await looked(db)
    await db.execute("UPDATE events SET received_at = now() - interval '1 hour'")
    await db.execute("UPDATE rhythms SET last_event_at = now() - interval '1 hour' WHERE account = 'main'")

    (silence,) = await looked(db)
    assert ("imin", "main", False, 12) == (silence.provider, silence.account, silence.over, round(silence.expected))
    assert [] == await looked(db)
    await receive()
    (over,) = await looked(db)
    assert ("main", True) == (over.account, over.over)
    assert [] == await looked(db)


async def test_what_reconciliation_made_is_no_sign_of_life(db: asyncpg.Connection, receive: Receive) -> None:
    """Only what the provider sent counts."""
    await busy(db)
    await receive()
    await db.execute("UPDATE events SET received_at = now() - interval '1 hour'")
    await receive()
    await db.execute("UPDATE events SET reconciled = true WHERE received_at > now() - interval '1 minute'")

    assert ["main"] == [silence.account for silence in await looked(db)]


async def test_an_account_is_looked_at_once_a_minute_whoever_looks(
    db: asyncpg.Connection, db2: asyncpg.Connection, receive: Receive
) -> None:
    """A second relay finds nothing to look at."""
    await receive()
    await looked(db)
    await looked(db)
    before = await db.fetch("SELECT * FROM rhythms ORDER BY account")

    await rhythms.look(db2, ACCOUNTS, SPANS)

    assert before == await db.fetch("SELECT * FROM rhythms ORDER BY account")
    assert 2 == len(before)
