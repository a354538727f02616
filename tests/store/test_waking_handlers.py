"""Which handlers the relay wakes: those for which something can be taken, and no others."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.errors import StoreAway
from shared.store import leases, queueing
from shared.store.handovers import handed_over, handing_over, handlers
from shared.store.handovers.handing_over import ClaimedHandover, Delivered, Subscription
from shared.store.records.numbering import number_changes
from steps import Receive
from workers.hand_over.waking import WakingHandlers


pytestmark = pytest.mark.anyio

EVERYTHING = Subscription("crm", (), ("created", "updated", "deleted"), beginning=True, concurrency=100, target="here")


async def change(db: asyncpg.Connection, *records: str) -> None:
    """A change of each of these records, in this order, with its number."""
    await db.executemany(
        """
        INSERT INTO changes (op, provider, account, kind, external_id, changed)
        VALUES ('updated', 'imin', 'main', 'thing', $1, '{}')
        """,
        [(record,) for record in records],
    )
    await number_changes(db)


async def process(db: asyncpg.Connection) -> UUID:
    """A living worker process."""
    worker = uuid4()
    await leases.beat(db, worker, "worker-handlers-1")
    return worker


async def blocked(db: asyncpg.Connection, seconds: float) -> tuple[UUID, ClaimedHandover]:
    """A worker that found nothing more: the first of three changes of one record waits, the others behind it."""
    await change(db, "a", "a", "a")
    worker = await process(db)
    (first,) = await handing_over.claim(db, EVERYTHING, worker, 10, first=True)
    await handed_over.commit(db, EVERYTHING, [Delivered(first, "waiting", wait_seconds=seconds)])
    assert [] == await handing_over.claim(db, EVERYTHING, worker, 10)
    return worker, first


async def test_what_waits_behind_a_later_attempt_wakes_nobody_before_it(db: asyncpg.Connection) -> None:
    """The changes behind it are due, and cannot be taken; at its next attempt the handler is woken."""
    await blocked(db, 30)
    assert [] == await handlers.wake(db)
    quiet: float = await db.fetchval("SELECT extract(epoch FROM quiet_until - now())::float8 FROM handlers")
    assert 25 < quiet <= 30
    await db.execute("UPDATE handlers SET quiet_until = now()")
    assert ["crm"] == await handlers.wake(db)


async def test_a_long_wait_is_looked_at_once_a_minute(db: asyncpg.Connection) -> None:
    """Whatever else may have happened meanwhile is found then."""
    await blocked(db, 3600)
    quiet: float = await db.fetchval("SELECT extract(epoch FROM quiet_until - now())::float8 FROM handlers")
    assert 55 < quiet <= 60


async def test_news_wakes_a_quiet_handler_at_once(db: asyncpg.Connection) -> None:
    """Another record does not wait for the one that is tried again."""
    worker, _ = await blocked(db, 3600)
    await change(db, "b")
    assert ["crm"] == await handlers.wake(db)
    assert ["b"] == [
        one.change.external_id for one in await handing_over.claim(db, EVERYTHING, worker, 10) if one.change
    ]


async def test_an_operator_wakes_a_quiet_handler_at_once(db: asyncpg.Connection) -> None:
    """What was made due, or discarded, by hand is looked at."""
    await blocked(db, 3600)
    await db.execute("UPDATE handovers SET due_at = now()")
    await handlers.stir(db)
    assert ["crm"] == await handlers.wake(db)


async def test_a_handler_is_not_quiet_while_something_is_under_way(db: asyncpg.Connection) -> None:
    """Its end lets the next one go, also when the process dies right after."""
    await change(db, "a", "a")
    one, other = await process(db), await process(db)
    (first,) = await handing_over.claim(db, EVERYTHING, one, 10, first=True)
    assert [] == await handing_over.claim(db, EVERYTHING, other, 10, first=True)
    await handed_over.commit(db, EVERYTHING, [Delivered(first, "done")])
    assert ["crm"] == await handlers.wake(db)


async def test_a_handler_is_woken_after_the_commit_and_owed_what_could_not_be_sent(
    db: asyncpg.Connection, database_url: str
) -> None:
    """While the message is on its way its row is free and stamped; one that failed is sent the next time."""
    await handlers.register(db, [handlers.NewHandler("crm", beginning=True)])
    await change(db, "a")
    seen: list[bool] = []

    async def look() -> bool:
        other = await asyncpg.connect(database_url)
        try:
            found = await other.fetchval(
                "SELECT woken_at IS NOT NULL FROM handlers WHERE name = 'crm' FOR UPDATE NOWAIT"
            )
            return bool(found)
        finally:
            await other.close()

    def publish(_: str) -> None:
        seen.append(asyncio.run(look()))
        if len(seen) == 1:
            raise StoreAway("Redis does not answer")

    waking = WakingHandlers(publish)
    with pytest.raises(StoreAway):
        await waking.wake(db)
    await waking.wake(db)
    await waking.wake(db)
    assert [True, True] == seen


async def test_what_is_queued_is_free_while_its_message_is_on_its_way(
    db: asyncpg.Connection, db2: asyncpg.Connection, receive: Receive
) -> None:
    """A worker that is woken by it finds the row."""
    await receive(3)
    await db.execute("UPDATE events SET queue_at = now()")
    (due,) = await queueing.due_events(db, ["imin"], 10)
    assert 3 == len(due.ids)
    assert 3 == len(await db2.fetch("SELECT id FROM events FOR UPDATE NOWAIT"))
    assert [] == await queueing.due_events(db, ["imin"], 10)
