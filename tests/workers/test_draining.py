"""What was spooled is moved into Postgres: in order, once, whatever dies or is broken on the way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from ops.embedded.redis import Redis as RedisServer
from shared.errors import StoreAway
from shared.providers.registry import PROVIDERS
from shared.spool import ASIDE, BYTES, SPOOL, Spool, pack, unpack
from shared.store.inbox import NewEvent, insert
from support.conditions import HANG_SECONDS
from workers.relay.draining import Draining


pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def event(content_type: str = "application/json", provider: str = "imin") -> NewEvent:
    """An event as ingress spools it."""
    body = b"sealed"
    return NewEvent(
        id=uuid7(),
        provider=provider,
        account="main",
        received_at=LONG_AGO,
        durability="spool",
        content_type=content_type,
        headers=[("x-one", "1"), ("x-one", "\xe9")],
        body=body,
        blob=None,
        body_bytes=len(body),
        body_sha256=hashlib.sha256(body).digest(),
    )


class Announced:
    """Takes what is announced; may be a Redis that does not answer."""

    def __init__(self) -> None:
        self.ids: list[tuple[str, list[UUID]]] = []
        self.away = False

    def __call__(self, provider: str, ids: Sequence[UUID]) -> None:
        """Take ids."""
        if self.away:
            raise StoreAway("Redis does not answer")
        self.ids.append((provider, list(ids)))


@pytest.fixture
async def client(redis: RedisServer) -> AsyncIterator[Redis]:
    """An empty Redis."""
    async with Redis.from_url(redis.url) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a fresh database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def announced() -> Announced:
    """Where drained events are announced."""
    return Announced()


@pytest.fixture
def draining(client: Redis, announced: Announced) -> Draining:
    """The drain under test."""
    return Draining(Spool(client), PROVIDERS, announced)


async def test_every_field_arrives(client: Redis, db: asyncpg.Connection, draining: Draining) -> None:
    """The row is what ingress would have written, with the time of the receipt; its story says how it came."""
    spooled = event()
    await Spool(client).append([spooled], 1)
    assert 1 == await draining.drain(db)
    row = await db.fetchrow("SELECT *, headers::text AS pairs FROM events")
    assert row is not None
    for name in set(NewEvent._fields) - {"headers"}:
        assert getattr(spooled, name) == row[name], name
    assert '[["x-one", "1"], ["x-one", "é"]]' == row["pairs"]
    assert "received" == row["state"]
    (step,) = await db.fetch("SELECT step, detail FROM timeline WHERE event_id = $1", spooled.id)
    assert "received" == step["step"]
    assert step["detail"].endswith("by the spool")


async def test_order_batches_and_announcement(
    client: Redis, db: asyncpg.Connection, draining: Draining, announced: Announced
) -> None:
    """Many batches are moved at once, oldest first; everything is announced to its provider, and nothing is left."""
    spooled = [event(provider=("imin", "paybook", "removed")[number % 3]) for number in range(900)]
    for start in range(0, 900, 150):
        await Spool(client).append(spooled[start : start + 150], 1)
    assert 900 == await draining.drain(db)
    kept = [row["event_id"] for row in await db.fetch("SELECT event_id FROM timeline ORDER BY id")]
    assert [each.id for each in spooled] == kept
    for provider in ("imin", "paybook"):
        expected = [each.id for each in spooled if each.provider == provider]
        assert expected == [each for name, ids in announced.ids if name == provider for each in ids]
    assert {"imin", "paybook"} == {name for name, _ in announced.ids}
    assert [0, 0] == [await client.exists(SPOOL) and await client.xlen(SPOOL), int(await client.get(BYTES) or 0)]


async def test_what_was_committed_already(client: Redis, db: asyncpg.Connection, draining: Draining) -> None:
    """A commit that succeeded late, or a relay that died before it could delete, makes no second row or step."""
    late, again = event()._replace(durability="postgres"), event()
    await insert(db, [late, again])
    await Spool(client).append([late._replace(durability="spool"), again, again], 1)
    await draining.drain(db)
    assert {late.id: "postgres", again.id: "spool"} == {
        row["id"]: row["durability"] for row in await db.fetch("SELECT id, durability FROM events")
    }
    assert 2 == await db.fetchval("SELECT count(*) FROM timeline")
    assert 0 == await client.xlen(SPOOL)


async def test_poison_is_set_aside(
    client: Redis, db: asyncpg.Connection, draining: Draining, announced: Announced
) -> None:
    """What nobody understands and what Postgres refuses is kept beside the spool with the reason; the rest goes on."""
    good, refused = [event(), event()], event(content_type="a\0b")
    spool = Spool(client)
    await spool.append([good[0], refused], 1)
    await client.xadd(SPOOL, {"event-1": b"\xc1 broken"})
    await client.xadd(SPOOL, {"stranger": "1"})
    await spool.append([good[1]], 1)
    await draining.drain(db)
    assert [each.id for each in good] == [each["id"] for each in await db.fetch("SELECT id FROM events ORDER BY id")]
    assert [("imin", [each.id for each in good])] == announced.ids
    aside = [fields for _, fields in await client.xrange(ASIDE)]
    assert [pack(refused), b"\xc1 broken", None] == [fields.get(b"event-1") for fields in aside]
    assert all(fields[b"reason"] for fields in aside)
    assert 0 == await client.xlen(SPOOL)


async def test_nothing_is_deleted_before_its_commit(
    client: Redis, db: asyncpg.Connection, draining: Draining, announced: Announced
) -> None:
    """While Postgres may not be written, the spool keeps everything; afterwards it goes on where it was."""
    spooled = [event() for _ in range(3)]
    await Spool(client).append(spooled, 1)
    await db.execute("SET default_transaction_read_only = on")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await draining.drain(db)
    assert 3 == await client.xlen(SPOOL)
    await db.execute("SET default_transaction_read_only = off")
    assert 3 == await draining.drain(db)
    assert [("imin", [each.id for each in spooled])] == announced.ids


async def test_an_announcement_that_fails_loses_nothing(
    client: Redis, db: asyncpg.Connection, draining: Draining, announced: Announced
) -> None:
    """The rows are there and due within seconds: the relay queues them again."""
    await Spool(client).append([event()], 1)
    announced.away = True
    with pytest.raises(StoreAway):
        await draining.drain(db)
    due = await db.fetchval("SELECT queue_at - now() FROM events")
    assert due < timedelta(seconds=6)
    assert 0 == await client.xlen(SPOOL)


async def test_several_relays(client: Redis, database_url: str) -> None:
    """Whoever drains at the same time, every event is there once and the bound's count comes out even."""
    spooled = [event() for _ in range(1000)]
    for start in range(0, 1000, 200):
        await Spool(client).append(spooled[start : start + 200], 1)
    connections = [await asyncpg.connect(database_url) for _ in range(4)]
    try:
        async with asyncio.timeout(HANG_SECONDS):
            while await client.xlen(SPOOL):
                await asyncio.gather(
                    *(Draining(Spool(client), PROVIDERS, Announced()).drain(connection) for connection in connections)
                )
        assert 1000 == await connections[0].fetchval("SELECT count(*) FROM events")
        assert 1000 == await connections[0].fetchval("SELECT count(*) FROM timeline")
        assert 0 == int(await client.get(BYTES) or 0)
    finally:
        for connection in connections:
            await connection.close()


async def test_what_two_relays_delete_counts_once(client: Redis) -> None:
    """Whoever comes second takes nothing off the count, which the bound of the spool depends on."""
    spool = Spool(client)
    await spool.append([event(), event()], 1)
    counted = int(await client.get(BYTES) or 0)
    first, _ = await spool.read(10)
    await spool.remove([first])
    await spool.remove([first])
    assert counted == 2 * int(await client.get(BYTES) or 0)


async def test_a_count_left_behind_is_forgotten(client: Redis, db: asyncpg.Connection, draining: Draining) -> None:
    """An ingress that died in between must not make the spool look full for ever."""
    await client.set(BYTES, 10**12)
    with pytest.raises(StoreAway, match="full"):
        await Spool(client).append([event()], 1)
    await draining.drain(db)
    await Spool(client).append([event()], 1)
    assert 1 == await Spool(client).length()


def test_entries_of_older_versions_are_read() -> None:
    """A stream may outlive the program that wrote it: this is an entry as version 0.1 packed it."""
    packed = bytes.fromhex(
        "9bd92430313961316232632d336434652d376636302d386137312d623263336434653566363037a4696d696ea46d61696ed7ff1d"
        "6f280069a43157a573706f6f6caa746578742f706c61696e9192a161a131c4067365616c6564c006c42000000000000000000000"
        "00000000000000000000000000000000000000000000"
    )
    expected = event("text/plain")._replace(
        id=UUID("019a1b2c-3d4e-7f60-8a71-b2c3d4e5f607"),
        headers=[("a", "1")],
        received_at=datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC),
        body_sha256=bytes(32),
    )
    assert expected == unpack(packed)


@given(
    st.builds(
        NewEvent,
        id=st.uuids(),
        provider=st.text(),
        account=st.text(),
        received_at=st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - as hypothesis wants it
        durability=st.just("spool"),
        content_type=st.text(st.characters(codec="latin-1")),
        headers=st.lists(st.tuples(st.text(st.characters(codec="latin-1")), st.text(st.characters(codec="latin-1")))),
        body=st.none() | st.binary(),
        blob=st.none() | st.text(),
        body_bytes=st.integers(0, 2**40),
        body_sha256=st.binary(min_size=32, max_size=32),
    )
)
def test_an_event_comes_out_as_it_went_in(spooled: NewEvent) -> None:
    """Whatever a delivery held, packing and unpacking changes nothing."""
    assert spooled == unpack(pack(spooled))
