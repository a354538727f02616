"""Retention: what is old goes, what may still be needed stays, whatever dies in between."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from shared.blobs import BlobStore
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.sealing import Keys, generate_key
from shared.store import blobs, retention, retention_guard
from shared.store.blobs import body_key
from shared.store.inbox import NewEvent, insert
from shared.store.retention import CHUNK_EVENTS
from workers.relay import retaining
from workers.relay.retaining import Retaining


pytestmark = pytest.mark.anyio

SETTINGS = "[retention]\nbodies = 10\nimages = 10\ntimeline = 20\nchanges = 20\ndeleted_records = 20\nevents = 30\n"


STEPS = {
    "received": (),
    "done": ("done",),
    "parked": ("parked",),
    "processing": ("processing",),
    "waiting": ("processing", "waiting"),
    "failed": ("processing", "failed"),
}
"""How an event gets there."""


class Bench:
    """A database, a blob folder, and retention over both."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", folder: Path) -> None:
        self.db = connection
        self.keys = Keys.parse([SecretStr(generate_key())])
        self.blobs = BlobStore.open((folder / "blobs").as_uri(), self.keys)
        self.file = folder / "penstock.toml"
        self.file.write_text(SETTINGS)

    async def event(
        self,
        days: float,
        state: str = "done",
        provider: str = "imin",
        *,
        blob: bool = False,
        identity: str | None = None,
        account: str = "main",
    ) -> UUID:
        """An event of that age with a body, a line of timeline and a blob if asked for."""
        moment = datetime.now(UTC) - timedelta(days=days)
        event = UUID(int=(int(moment.timestamp() * 1000) << 80) | (uuid4().int & ((1 << 76) - 1)) | (7 << 76))
        key = body_key(f"{moment:%Y-%m-%d}", provider, account, event) if blob else None
        if key:
            await self.blobs.put(key, b"large", event)
        sealed = None if blob else self.keys.seal(b"body", event)
        digest = hashlib.sha256(b"body").digest()
        row = NewEvent(event, provider, account, moment, "postgres", "", [], sealed, key, 4, digest)
        await insert(self.db, [row])
        for step in STEPS[state]:
            await self.db.execute("UPDATE events SET state = $2, identity = $3 WHERE id = $1", event, step, identity)
        if identity:
            await self.db.execute("INSERT INTO identities VALUES ($1, 'main', $2, $3)", provider, identity, event)
        return event

    async def image(self, event: UUID) -> str:
        """An image of an event, put as workers put it."""
        key = f"authenteq/main/{event}/face"
        await blobs.note_put(self.db, [blobs.Kept(key, "authenteq", "main", event)])
        await self.blobs.put(key, b"face", event)
        return key

    async def time_passes(self) -> None:
        """What was put, or found without a row, is due; every round is over."""
        await self.db.execute(
            "UPDATE blobs SET look_at = now(), put_at = put_at - interval '1 day' WHERE look_at > now()"
        )
        await self.db.execute("UPDATE retention SET round_at = 'epoch', moved_at = now()")

    def objects(self) -> set[str]:
        """What lies in the blob store."""
        root = self.file.parent / "blobs"
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    async def body(self, event: UUID) -> str:
        """Where an event's body lies."""
        found: str = await self.db.fetchval("SELECT blob FROM events WHERE id = $1", event)
        return found

    async def change(self, days: float, seq: int) -> int:
        """An entry of the feed of that age."""
        found: int = await self.db.fetchval(
            """
            INSERT INTO changes (seq, op, provider, account, kind, external_id, changed, at)
            VALUES ($1, 'created', 'imin', 'main', 'thing', $2, '{}', now() - make_interval(secs => $3)) RETURNING id
            """,
            seq,
            str(seq),
            days * 86400,
        )
        return found

    async def look(self, seconds: float = retaining.LOOK_SECONDS) -> int:
        """What the relay does at each look."""
        return await Retaining(self.db, self.blobs, read_configuration(self.file), seconds).look()

    async def ids(self, table: str, column: str = "id") -> set[object]:
        """What is in a table."""
        return {row[0] for row in await self.db.fetch(f"SELECT {column} FROM {table}")}  # noqa: S608 - of this test


@pytest.fixture
async def bench(database_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """On a database of its own."""
    connection = await asyncpg.connect(database_url)
    yield Bench(connection, tmp_path)
    await connection.close()


async def test_bodies_timeline_and_events_go_each_at_their_age(bench: Bench) -> None:
    """A body after ten days, the timeline after twenty, the event after thirty; a blob with its body."""
    young, ten, twenty, _ = [await bench.event(days, blob=True) for days in (9, 11, 21, 31)]

    await bench.look()

    assert {young, ten, twenty} == await bench.ids("events")
    assert {young, ten} == await bench.ids("timeline", "event_id")
    assert {young} == {row["id"] for row in await bench.db.fetch("SELECT id FROM events WHERE blob IS NOT NULL")}
    assert {await bench.body(young)} == bench.objects()
    assert b"large" == await bench.blobs.read(await bench.body(young), young)


async def test_what_is_not_finished_keeps_its_body(bench: Bench) -> None:
    """However old: an event that waits is never removed; one for a person goes whole, and only at the age of events."""
    waiting = [await bench.event(100, state) for state in ("received", "processing", "waiting")]
    parked, old = await bench.event(29, "parked"), await bench.event(31, "failed")

    await bench.look()

    kept = {row["id"] for row in await bench.db.fetch("SELECT id FROM events WHERE body IS NOT NULL")}
    assert {*waiting, parked} == kept
    assert old not in await bench.ids("events")


async def test_an_identity_lives_as_long_as_its_event(bench: Bench) -> None:
    """While its body is gone the event still makes a later delivery a duplicate."""
    kept = await bench.event(29, identity="kept")
    await bench.event(31, identity="gone")

    await bench.look()

    assert {kept} == await bench.ids("identities", "event_id")


async def test_more_than_a_chunk_is_removed_and_what_was_passed_over_comes_again(bench: Bench) -> None:
    """Chunk after chunk; an event that finishes behind the position goes in the next round."""
    late = await bench.event(40, "waiting")
    for _ in range(CHUNK_EVENTS + 5):
        await bench.event(35)
    await bench.look()
    assert await retention_guard.allow(bench.db)
    while await bench.look():
        pass
    assert {late} == await bench.ids("events")

    for step in ("processing", "done"):
        await bench.db.execute("UPDATE events SET state = $1", step)
    await bench.look()
    assert {late} == await bench.ids("events")
    await bench.db.execute("UPDATE retention SET round_at = now() - interval '2 hours'")
    while await bench.look():
        pass
    assert set() == await bench.ids("events")


async def test_one_accounts_backlog_holds_up_no_others(bench: Bench) -> None:
    """Also where a look has time for one chunk alone: whoever had no turn for longest comes first."""
    for _ in range(3 * CHUNK_EVENTS):
        await bench.event(35, account="a")
    small = [await bench.event(35, account=name) for name in ("b", "c")]
    await bench.look()
    assert {"bodies", "timeline", "events"} == {walk.what for walk in await retention_guard.allow(bench.db)}
    looks = 0
    while {*small} & await bench.ids("events"):
        await bench.look(seconds=0)
        looks += 1
        assert looks < 100
    assert await bench.db.fetchval("SELECT count(*) FROM events WHERE account = 'a' AND body IS NOT NULL")


async def test_many_deleted_records_need_no_second_round(bench: Bench) -> None:
    """Chunk after chunk, over as many looks as it takes."""
    await bench.db.execute(
        """
        INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at, deleted_at)
        SELECT 'imin', 'main', 'thing', n, '{}', 1, now(), now(), now() - interval '30 days'
        FROM generate_series(1, $1::int) AS n
        """,
        2 * retention.CHUNK_ROWS + 1,
    )
    for _ in range(200):
        await bench.look(seconds=0)
        await retention_guard.allow(bench.db)
    assert set() == await bench.ids("records", "external_id")


async def test_a_change_stays_until_every_handler_is_done_with_it(bench: Bench) -> None:
    """Kept: above the lowest cursor, with an unfinished hand-over or one for a person, the newest; the rest goes."""
    done, unfinished, parked, ahead, young, newest = [
        await bench.change(days, seq) for seq, days in enumerate((30, 30, 30, 30, 1, 1), 1)
    ]
    await bench.db.execute("INSERT INTO handlers (name, cursor) VALUES ('slow', 3), ('quick', 6)")
    for change, state in ((done, "done"), (unfinished, "waiting"), (parked, "parked")):
        await bench.db.execute(
            "INSERT INTO handovers (handler, change_id, seq, lane, state) VALUES ('quick', $1, $1, $1, $2)",
            change,
            state,
        )

    await bench.look()

    assert {unfinished, parked, ahead, young, newest} == await bench.ids("changes")
    assert {unfinished, parked} == await bench.ids("handovers", "change_id")


async def test_once_marks_stay_when_their_records_go(bench: Bench) -> None:
    """A record that was deleted goes at its age; its mark does not, nor does one that is alive, however old."""
    await bench.db.execute("INSERT INTO once_marks VALUES ('mark', 'record')")
    for name, deleted in (("old", 21), ("young", 19), ("alive", None)):
        await bench.db.execute(
            """
            INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at, deleted_at)
            VALUES ('imin', 'main', 'thing', $1, '{}', 1, now() - interval '1 year', now(),
                    now() - make_interval(days => $2))
            """,
            name,
            deleted,
        )

    await bench.look()

    assert {"young", "alive"} == await bench.ids("records", "external_id")
    assert {b"mark"} == await bench.ids("once_marks", "mark")


async def test_answers_that_did_not_come_again_are_forgotten(bench: Bench) -> None:
    """After a week: an address with a date in it never comes again."""
    await bench.event(1)
    for resource, days in (("old", 8), ("young", 6)):
        await bench.db.execute(
            """
            INSERT INTO answers VALUES ($1, 'imin', 'main', 'thing', '', 1, 'a', '', now() - make_interval(days => $2))
            """,
            resource.encode(),
            days,
        )

    await bench.look()

    assert {b"young"} == await bench.ids("answers", "resource")


async def test_images_go_before_their_records(bench: Bench) -> None:
    """The image of an old verification is removed from the blobs, that of a young one is not."""
    old, young = await bench.event(11, provider="authenteq"), await bench.event(9, provider="authenteq")
    for event in (old, young):
        await bench.image(event)
    await bench.time_passes()

    await bench.look()

    assert {f"authenteq/main/{young}/face"} == bench.objects()


async def test_a_look_that_dies_leaves_nothing_half_done(bench: Bench) -> None:
    """Broken off at any moment: the next look finishes, and no row refers to a blob that is gone."""
    for _ in range(20):
        await bench.event(11, blob=True)
    for seconds in (0.0, 0.005, 0.01, 0.02):
        looking = asyncio.create_task(bench.look())
        await asyncio.sleep(seconds)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        if bench.db.is_closed():
            pytest.fail("the connection was lost")

    await bench.db.execute("SELECT pg_advisory_unlock_all()")
    await bench.look()

    assert 0 == await bench.db.fetchval("SELECT count(*) FROM events WHERE blob IS NOT NULL")


async def test_nothing_is_removed_while_much_waits(bench: Bench) -> None:
    """A backlog goes first."""
    await bench.event(100)
    await bench.db.execute(
        """
        INSERT INTO events (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256)
        SELECT gen_random_uuid(), 'imin', 'main', 'postgres', '', '[]', '', 0, '' FROM generate_series(0, $1)
        """,
        retention.BUSY_EVENTS,
    )
    assert await retention.is_busy(bench.db)
    assert 0 == await bench.look()


async def test_two_relays_do_not_do_it_twice(bench: Bench, database_url: str) -> None:
    """The second one finds the lock taken and does nothing."""
    await bench.event(100)
    other = await asyncpg.connect(database_url)
    try:
        async with retaining.alone(other, *retaining.REWRITING):
            assert 0 == await bench.look()
        assert 0 < await bench.look()
    finally:
        await other.close()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[authenteq.retention]\nbodies = 6\n",
            "[authenteq.retention] bodies: authenteq sends a delivery again for 7 days",
        ),
        ("[retention]\nevents = 6\n", "[retention] events: authenteq sends a delivery again for 7 days"),
        ("[retention]\nevents = -1\n", "[retention] events"),
        ("[retention]\nforever = 1\n", "[retention] forever: there is no such field"),
    ],
)
async def test_a_time_shorter_than_redelivery_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """The settings are refused with the name of the setting."""
    file = tmp_path / "penstock.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_configuration(file)
    assert str(refused.value).startswith(sentence)


async def test_a_provider_may_keep_less_or_more(tmp_path: Path) -> None:
    """What a provider's section says goes over the general one; 0 keeps it for ever."""
    file = tmp_path / "penstock.toml"
    file.write_text("[retention]\nbodies = 14\n[imin.retention]\nbodies = 2\nevents = 0\n")
    kept: Mapping[str, object] = read_configuration(file).retention
    assert "2 0 180" == "{0.bodies} {0.events} {1.events}".format(kept["imin"], kept["magicline"])
