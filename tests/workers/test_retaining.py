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
from redis.asyncio import Redis as Client
from uuid_utils.compat import uuid7

from ops.embedded.redis import Redis
from shared.blob_keys import Kept, body_key
from shared.blobs import BlobStore
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.providers.interface import Call, Record
from shared.sealing import Keys, generate_key
from shared.spool import Spool
from shared.store import blob_notes, opening, retention, retention_guard
from shared.store.inbox import NewEvent, insert
from shared.store.records import recording
from shared.store.records.sighting import Sighting
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

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", redis_url: str, folder: Path) -> None:
        self.db = connection
        self.keys = Keys.parse([SecretStr(generate_key())])
        self.blobs = BlobStore.open((folder / "blobs").as_uri(), self.keys)
        self.file = folder / "penstock.toml"
        self.file.write_text(SETTINGS)
        self.client = Client.from_url(redis_url)
        self.spool = Spool(self.client)

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
        await blob_notes.note_put(self.db, [Kept(key, "authenteq", "main", event)])
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

    async def put(self, key: str) -> None:
        """A file of a record, put as workers put it."""
        await blob_notes.note_put(self.db, [Kept.named(key, "paybook", "main", None)])
        await self.blobs.put(key, b"file", uuid4())

    async def record(self, name: str, blob: str) -> None:
        """A record that names a file from now on."""
        data = f'{{"blob": "{blob}"}}'
        began = await self.db.fetchval("SELECT nextval('claims')")
        async with self.db.transaction():
            record = Record("paybook.attachment", name, data)
            await recording.apply(self.db, [Sighting("paybook", "main", record, began, None)])

    async def look(self, seconds: float = retaining.LOOK_SECONDS, *, spool: Spool | None = None) -> int:
        """What the relay does at each look."""
        return await Retaining(self.db, self.blobs, read_configuration(self.file), seconds, spool=spool).look()

    async def ids(self, table: str, column: str = "id") -> set[object]:
        """What is in a table."""
        return {row[0] for row in await self.db.fetch(f"SELECT {column} FROM {table}")}  # noqa: S608 - of this test


@pytest.fixture
async def bench(database_url: str, empty_redis: Redis, tmp_path: Path) -> AsyncIterator[Bench]:
    """On a database of its own."""
    connection = await asyncpg.connect(database_url)
    bench = Bench(connection, empty_redis.url, tmp_path)
    yield bench
    await bench.client.aclose()
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


# ── blobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_refused_body_is_removed_after_a_day_unless_the_spool_names_it(bench: Bench) -> None:
    """What a 503 left behind goes, whatever process died; an entry of the spool, also one set aside, keeps its body."""
    moment = datetime.now(UTC)
    refused, spooled, aside, kept = uuid7(), uuid7(), uuid7(), await bench.event(1, blob=True)
    key_of = {event: body_key(f"{moment:%Y-%m-%d}", "imin", "main", event) for event in (refused, spooled, aside)}
    for event, key in key_of.items():
        await bench.blobs.put(key, b"large", event)
    await bench.blobs.put("elsewhere/of-others", b"not ours", kept)
    spool = bench.spool
    for event in (spooled, aside):
        row = NewEvent(event, "imin", "main", moment, "spool", "", [], None, key_of[event], 5, b"")
        await spool.append([row], 1.0)
    entries = await spool.read(10)
    await spool.set_aside(next(entry for entry in entries if entry.event and entry.event.id == aside), "a test")

    await bench.look(spool=spool)
    assert {*key_of.values(), await bench.body(kept), "elsewhere/of-others"} == bench.objects()
    await bench.time_passes()
    assert 1 == await bench.look(spool=spool)

    left = {key_of[spooled], key_of[aside], await bench.body(kept), "elsewhere/of-others"}
    assert left == bench.objects()
    await bench.time_passes()
    await bench.look()
    assert left == bench.objects(), "without the spool nobody can tell what it names"
    await bench.client.flushall()
    await bench.time_passes()
    await bench.look(spool=spool)
    assert {await bench.body(kept), "elsewhere/of-others"} == bench.objects()


async def test_a_file_goes_when_the_last_record_that_names_it_is_gone_or_has_another(bench: Bench) -> None:
    """Two records with the same content share one; replaced in one and removed with the other it goes, not before."""
    old, new = "paybook/main/old", "paybook/main/new"
    for key in (old, new):
        await bench.put(key)
    for name in ("a", "b"):
        await bench.record(name, old)
    await bench.time_passes()
    await bench.look()
    assert {old} == bench.objects()

    await bench.put(new)
    await bench.record("a", new)
    await bench.time_passes()
    await bench.look()
    assert {old, new} == bench.objects()

    await bench.db.execute("UPDATE records SET deleted_at = now() - interval '21 days' WHERE external_id = 'b'")
    await bench.time_passes()
    await bench.look()
    assert {new} == bench.objects()
    assert {new} == await bench.ids("blobs", "key")


async def test_objects_of_an_older_version_have_rows_after_a_walk_and_then_go_with_their_owners(bench: Bench) -> None:
    """Images and files that lie there without a row: those that are named stay, those of nobody go."""
    event = await bench.event(9, provider="authenteq")
    await bench.blobs.put(f"authenteq/main/{event}/face", b"face", event)
    await bench.blobs.put("paybook/main/named", b"file", event)
    await bench.blobs.put("paybook/main/nobodys", b"file", event)
    await bench.record("a", "paybook/main/named")

    await bench.look()
    await bench.time_passes()
    await bench.look()

    assert {f"authenteq/main/{event}/face", "paybook/main/named"} == bench.objects()
    await bench.db.execute("DELETE FROM events")
    await bench.db.execute("DELETE FROM records")
    await bench.look()
    assert set() == bench.objects()


async def test_a_store_that_another_installation_uses_too_is_left_alone(bench: Bench) -> None:
    """Where more than a tenth of the objects have no row here somebody has to look; allowed, they go."""
    kept = await bench.event(1, blob=True)
    for _ in range(retention_guard.FEW_ROWS + 1):
        other = uuid7()
        await bench.blobs.put(body_key("2026-11-21", "imin", "main", other), b"theirs", other)
    await bench.look(spool=bench.spool)
    await bench.time_passes()
    await bench.look(spool=bench.spool)
    assert retention_guard.FEW_ROWS + 2 == len(bench.objects())
    [refusal] = await retention_guard.refusals(bench.db)
    assert "101 of 102 objects in the blob store have no row in this database" in refusal.sentence

    await retention_guard.allow(bench.db)
    while await bench.look(spool=bench.spool):
        pass
    assert {await bench.body(kept)} == bench.objects()


# ── what keeps it from removing too much ──────────────────────────────────────────────────────────────────────────


async def test_after_a_leap_more_than_a_tenth_waits_for_a_person(bench: Bench) -> None:
    """A setting that was shortened, or a clock that leapt: nothing goes until it is allowed; a small step just goes."""
    for _ in range(retention_guard.FEW_ROWS + 1):
        await bench.event(5)
    await bench.look()
    assert not await retention_guard.refusals(bench.db)

    bench.file.write_text("[retention]\nbodies = 10\nevents = 30\n[imin.retention]\nbodies = 4\n")
    await bench.time_passes()
    await bench.look()
    [refusal] = await retention_guard.refusals(bench.db)
    assert ("imin", "main", "bodies") == refusal.walk
    assert "would remove 100 % of the account's bodies" in refusal.sentence
    assert "penstock retention allow" in refusal.sentence
    assert 101 == await bench.db.fetchval("SELECT count(*) FROM events WHERE body IS NOT NULL")

    assert [refusal.walk] == list(await retention_guard.allow(bench.db, "imin"))
    await bench.look()
    assert 0 == await bench.db.fetchval("SELECT count(*) FROM events WHERE body IS NOT NULL")
    assert not await retention_guard.refusals(bench.db)


async def test_the_first_round_after_an_upgrade_asks_nothing(bench: Bench) -> None:
    """A version that did not note how far it had come removed all the same: what it would remove now is little."""
    for _ in range(retention_guard.FEW_ROWS + 1):
        await bench.event(15)
    await bench.db.execute(
        "INSERT INTO retention (provider, account, what, removed) VALUES ('imin', 'main', 'bodies', 101)"
    )
    await bench.look()
    assert not await retention_guard.refusals(bench.db)


async def test_nothing_is_removed_while_the_clocks_are_apart(bench: Bench) -> None:
    """One of them is wrong: which, a person has to say. When they agree it goes on by itself."""
    await bench.event(100)
    theirs = await retention_guard.now(bench.db)
    assert not await retention_guard.clocks_agree(bench.db, theirs, theirs + timedelta(days=366))
    [refusal] = await retention_guard.refusals(bench.db)
    assert "more than an hour apart" in refusal.sentence
    assert [] == list(await retention_guard.allow(bench.db))

    assert 0 < await bench.look()
    assert not await retention_guard.refusals(bench.db)


# ── history ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_hand_over_that_is_replayed_meanwhile_keeps_its_change(bench: Bench, database_url: str) -> None:
    """An operator hands over again at the moment in which retention looks: both stay."""
    change, _ = await bench.change(30, 1), await bench.change(1, 2)
    await bench.db.execute("INSERT INTO handlers (name, cursor) VALUES ('quick', 2)")
    await bench.db.execute(
        "INSERT INTO handovers (handler, change_id, seq, lane, state) VALUES ('quick', $1, 1, 1, 'done')", change
    )
    operator = await asyncpg.connect(database_url)
    async with operator.transaction():
        await operator.execute("UPDATE handovers SET state = 'pending'")
        looking = asyncio.create_task(bench.look())
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while not await operator.fetchval(waits):
            await operator.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)
    await looking
    await operator.close()

    assert change in await bench.ids("changes")
    assert {"pending"} == await bench.ids("handovers", "state")


async def test_replays_and_reconciliations_go_with_the_age_of_events(bench: Bench) -> None:
    """Ended or broken off; of each account's reconciliations the newest that ended stays, however old."""
    await bench.event(1)
    for days in (31, 29):
        await bench.db.execute(
            """
            INSERT INTO replays (what, asked, until, reason, who, moved_at)
            VALUES ('events', '{}', now(), '', $1::text, now() - make_interval(days => $1::int))
            """.replace("$1::text", f"'{days}'"),
            days,
        )
    for days, ended in ((50, True), (40, False), (35, True)):
        walk = await bench.db.fetchval(
            """
            INSERT INTO reconciliations (provider, account, dry_run, moved_at, finished_at)
            VALUES ('imin', 'main', false, now() - make_interval(days => $1), CASE WHEN $2 THEN now() END) RETURNING id
            """,
            days,
            ended,
        )
        await bench.db.execute("INSERT INTO reconciliation_sights VALUES ($1, 'thing', 'a', '{}')", walk)

    await bench.look()

    assert {"29"} == await bench.ids("replays", "who")
    [left] = await bench.db.fetch("SELECT id, now() - moved_at < interval '36 days' AS newest FROM reconciliations")
    assert left["newest"]
    assert {left["id"]} == await bench.ids("reconciliation_sights", "reconciliation")


async def test_calls_that_no_event_leads_to_go_and_others_do_not(bench: Bench) -> None:
    """What an older version left behind: finished calls without a link; one that runs is left to its commit."""
    event = await bench.event(1)
    for path, state, linked in (("/lone", "done", False), ("/running", "running", False), ("/linked", "done", True)):
        call = Call(path, "thing")
        wanted = opening.by_resource([opening.Wanted("imin", "main", call, [event])])
        async with bench.db.transaction():
            [opened] = await opening.open_fetches(bench.db, wanted, 0.0)
        for step in ("running", state) if state != "running" else ("running",):
            await bench.db.execute("UPDATE fetches SET state = $2 WHERE id = $1", opened.id, step)
        if not linked:
            await bench.db.execute("DELETE FROM event_fetches WHERE fetch_id = $1", opened.id)

    await bench.look()

    assert {"/running", "/linked"} == await bench.ids("fetches", "path")
