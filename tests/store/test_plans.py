"""No statement of the flow costs more when more is stored: none reads a whole table, or a growing part of one.

The functions run against a database with twenty thousand finished events, analysed; ``plans`` explains each statement
that they send. A new function of the flow is one more step in one of these tests.
"""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ops.bench.filling import fill
from ops.embedded.postgres import Postgres
from plans import Found, explaining, problems, young_problems
from shared.blob_keys import Kept
from shared.providers.imin.settings import IminAccount
from shared.providers.interface import Call, Outcome, Record
from shared.store import (
    blob_notes,
    blobs,
    due,
    duties,
    failing,
    fetching,
    finishing,
    holding,
    leases,
    links,
    planning,
    queueing,
    releasing,
    replaying,
    retention,
    returning,
    selecting,
    stuck,
    tallying,
)
from shared.store.fairness import Room
from shared.store.fetching import Result
from shared.store.handovers import discarding as handover_discarding
from shared.store.handovers import replaying as handover_replaying
from shared.store.handovers import selecting as handover_selecting
from shared.store.opening import Start, resource_key
from shared.store.planning import Planned
from shared.store.pooling import CLAIM_PLANS, PLANS
from shared.store.postgres import Connection
from shared.store.reading import handovers, touching
from shared.store.reading.accounts import list_accounts
from shared.store.reading.changes import changes_after, newest_changes
from shared.store.reading.connecting import reading, reading_engine
from shared.store.reading.counting import stats
from shared.store.reading.dead_letters import dead_letters
from shared.store.reading.events import Filters, body_of, head_of, list_events, show_event
from shared.store.reading.handovers import list_handovers, show_handover
from shared.store.reading.records import list_records
from shared.store.reading.replays import list_replays
from shared.store.records import numbering, recognising
from shared.store.records.recognising import Seen
from steps import claim_events, claim_fetches, keep, plan, worker


STORED = 20_000

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def populated(postgres: Postgres, template: str) -> str:
    """A database in which much has happened, with up-to-date statistics."""
    name = f"populated_{uuid.uuid4().hex}"
    base = postgres.url.rpartition("/")[0]

    async def populate() -> None:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        await connection.close()
        await fill(f"{base}/{name}", STORED, lambda _: None)
        connection = await asyncpg.connect(f"{base}/{name}")
        await connection.execute(
            """
            INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
            SELECT 'imin', 'main', 'imin.customer-account', 'c-' || n, '{"some": "thing"}', n, now(), now()
            FROM generate_series(1, $1::bigint) AS n
            """,
            STORED,
        )
        await connection.execute(
            """
            INSERT INTO changes (seq, op, provider, account, kind, external_id, changed)
            SELECT nextval('change_numbers'), 'created', 'imin', 'main', 'imin.customer-account', 'c-' || n, '{}'
            FROM generate_series(1, $1::bigint) AS n
            """,
            STORED,
        )
        await connection.execute(
            """
            INSERT INTO identities (provider, account, identity, event_id)
            SELECT provider, account, 'uuid-' || row_number() OVER (), id FROM events
            """
        )
        await connection.execute("INSERT INTO handlers (name, cursor) VALUES ('crm', $1), ('shop', $1)", STORED)
        await connection.execute(
            """
            INSERT INTO handovers (handler, change_id, seq, lane, state, finished_at)
            SELECT name, id, seq, id, CASE WHEN seq % 1000 = 0 THEN 'parked' ELSE 'done' END, now()
            FROM changes, unnest(ARRAY['crm', 'shop']) AS name ORDER BY seq
            """
        )
        await connection.execute("VACUUM (ANALYZE)")
        await connection.close()

    asyncio.run(populate())
    return f"{base}/{name}"


@pytest.fixture
async def plain(populated: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to it."""
    connection = await asyncpg.connect(populated, server_settings={"jit": "off"})
    yield connection
    await connection.close()


@pytest.fixture
async def engine(populated: str) -> AsyncIterator[AsyncEngine]:
    """The engine that people's commands read with."""
    made = reading_engine(populated)
    yield made
    await made.dispose()


@pytest.fixture
def found() -> Found:
    """What the plans of a test showed."""
    return Found()


@pytest.fixture
def db(plain: asyncpg.Connection, found: Found) -> Connection:
    """A connection that explains every statement."""
    return explaining(plain, found)


@pytest.fixture
async def work(plain: asyncpg.Connection, found: Found, database_url: str) -> AsyncIterator[Connection]:
    """One that explains it as a worker's and the relay's connections carry it out, too: with a plan they may keep."""
    young = await asyncpg.connect(database_url, server_settings=PLANS)
    yield explaining(plain, found, young)
    await young.close()


@pytest.fixture
async def claims(plain: asyncpg.Connection, found: Found, database_url: str) -> AsyncIterator[Connection]:
    """The same for looks and claims."""
    young = await asyncpg.connect(database_url, server_settings=CLAIM_PLANS)
    yield explaining(plain, found, young)
    await young.close()


async def test_a_sequential_scan_is_noticed(plain: asyncpg.Connection) -> None:
    """The tests' own protection: a statement without an index to go by, and one that walks through an index."""
    scan = "SELECT id FROM events WHERE content_type = $1"
    walk = "SELECT count(*) FROM (SELECT id FROM events ORDER BY id) AS every"

    assert [f"a sequential scan of events: {scan}"] * 2 == await problems(plain, scan, ["x"])
    assert [f"a plan of an empty database reads the whole of events: {scan}"] == await young_problems(plain, scan, 1)
    (said,) = await problems(plain, walk, [])
    assert re.fullmatch(f"[0-9]+ rows of events are looked at by Index Only Scan: {re.escape(walk)}", said)


async def test_receiving_planning_fetching_and_applying(
    work: Any, claims: Any, plain: asyncpg.Connection, found: Found
) -> None:
    """The whole way of a batch: kept, claimed, planned with and without duplicates, fetched, stored, failed."""
    process = await worker(plain)
    await keep(plain, 60)
    assert (await due.look(claims, "imin")).events
    events = await claim_events(claims, process, limit=20)
    records = [Record("imin.customer-account", f"c-{number}", '{"other": "thing"}') for number in range(1, 15)]
    await planning.commit(
        work,
        [
            Planned(each, types=("t",), identity=f"uuid-{number}", calls=(_call(number),), records=records[:1])
            for number, each in enumerate(events)
        ],
        0.5,
    )
    await plan(work, process, _call(100), _call(101))
    await keep(plain, 5)
    begun = await planning.commit(
        work,
        [
            Planned(each, types=("t",), calls=(_call(300 + number),))
            for number, each in enumerate(await claim_events(claims, process, limit=5))
        ],
        0.5,
        Start(process, Room.of(50)),
    )
    assert begun.started
    fetches = await claim_fetches(claims, process)
    anew = await fetching.begin_anew(work, fetches[0])
    assert anew is not None
    results = [
        Result(anew, "done", Outcome(records=records, next=(_call(200),)), 200),
        *(Result(fetch, "done", Outcome(), 200) for fetch in fetches[1:10]),
        *(Result(fetch, "waiting", status=500, reason="refused", wait_seconds=0.0) for fetch in fetches[10:12]),
        *(Result(fetch, "failed", status=410, reason="refused") for fetch in fetches[12:]),
    ]
    await fetching.commit(work, results, 0.5)
    await finishing.settle_events(work, await finishing.events_of(work, [fetch.id for fetch in fetches]))
    assert await claim_fetches(claims, process)
    await leases.leave(work, process)

    assert [] == found.wrong
    assert len(found.statements) > 15


async def test_a_large_answer_and_the_same_again(
    populated: str, plain: asyncpg.Connection, found: Found, database_url: str
) -> None:
    """Its records are looked up one by one, also those of an answer that is known: as a worker's connections do it."""
    process = await worker(plain)
    await keep(plain, 1)
    await plan(plain, process, _call(400))
    (fetch,) = [each for each in await claim_fetches(plain, process) if each.call.path == _call(400).path]
    large = [Record("imin.customer-account", f"l-{number}", "{}") for number in range(recognising.WORTH_RECORDS)]
    resource = resource_key("imin", "main", fetch.call)
    own = await asyncpg.connect(populated, server_settings=PLANS)
    young = await asyncpg.connect(database_url, server_settings=PLANS)
    work = explaining(own, found, young)

    assert await recognising.look(work, resource, b"digest") is None
    await fetching.commit(work, [Result(fetch, "done", Outcome(records=large), 200, seen=Seen(b"digest"))], 0.5)
    assert await recognising.look(work, resource, b"digest") == len(large)
    async with work.transaction():
        await recognising.note(work, [recognising.Known(resource, b"digest", len(large), fetch.token)])
    await young.close()
    await own.close()

    assert [] == found.wrong
    assert any("answers" in statement for statement in found.statements)


async def test_what_the_relay_does_again_and_again(
    work: Any, claims: Any, plain: asyncpg.Connection, found: Found
) -> None:
    """Scans for what is due, the feed's numbers, folded tallies, ended leases, accounts that returned, held calls."""
    process = await worker(plain)
    await keep(plain, 20)
    await plain.execute("UPDATE events SET queue_at = now() WHERE state = 'received'")
    await claim_events(claims, process, limit=5)
    await plain.execute("UPDATE worker_processes SET beat_at = now() - interval '1 hour' WHERE id = $1", process)

    assert await queueing.due_events(work, ["imin"], 2000)
    await queueing.due_fetches(work, ["imin"], 2000)
    await queueing.fold_tallies(work)
    await numbering.number_changes(work)
    await leases.expire(work, 10.0, until=datetime.now(UTC) + timedelta(hours=1))
    await leases.give_back_orphans(work)
    await releasing.give_back(work, process, [], [])
    await returning.go_on(work, [("imin", "main")])
    for provider, account in [("imin", "main"), *await holding.accounts(work)]:
        await holding.oldest(work, provider, account)
        await holding.purposes(work, provider, account)
    await returning.with_room(work, [("imin", "main")])
    await tallying.progress(work, ["imin", "magicline"])
    await stuck.unplanned(work, ["imin", "magicline"])
    await duties.tell(work, [duties.Told("queue-due", 1.0, 120.0, None)])
    await failing.note(work, process, "KeyError")

    assert [] == found.wrong
    assert len(found.statements) > 12


async def test_what_goes_on_of_a_returned_account_is_read_in_pieces(database_url: str) -> None:
    """However many wait: a round looks at as many as it takes, and leaves what is locked."""
    found = Found()
    db, other = await asyncpg.connect(database_url, server_settings=PLANS), await asyncpg.connect(database_url)
    try:
        for account in ("main", "first", "second"):
            await keep(db, 2_500, account=account)
        await db.execute("UPDATE events SET state = 'parked', error_reason = 'account-removed', finished_at = now()")
        await db.execute("VACUUM ANALYZE events")
        async with other.transaction():
            await other.execute("SELECT FROM events ORDER BY id LIMIT 10 FOR UPDATE")
            work = explaining(db, found)
            assert 400 == await returning.go_on(work, [("imin", "gone"), ("imin", "main")], 400)
    finally:
        await db.close()
        await other.close()
    assert [] == found.wrong


async def test_what_retention_removes(db: Any, found: Found) -> None:
    """A chunk of anything costs the same however much is stored, and however far the round has come."""
    soon = datetime.now(UTC) + timedelta(days=1)
    assert not await retention.is_busy(db)
    accounts = await retention.accounts_of(db, "imin")
    for what in ("bodies", "timeline", "events"):
        walk = retention.Walk("imin", accounts[0], what)
        after = await retention.position(db, walk) or ""
        async with db.transaction():
            chunk = await retention.old_events(db, walk, after, soon, retention.ENDED)
            ids = chunk.events
            assert ids
            await retention.remove_bodies(db, ids)
            await retention.remove_timeline(db, ids)
            await retention.remove_events(db, ids)
            await retention.moved(db, walk, chunk.position, len(ids), last=chunk.last)
    await retention.remove_deleted_records(db, "imin", soon)
    await retention.remove_answers(db, "imin", "main", soon)
    await retention.remove_replays(db, soon)
    await retention.remove_reconciliations(db, "imin", "main", soon)
    async with db.transaction():
        assert (await retention.remove_changes(db, "5000", {"imin": soon}))[0]
        await links.remove_calls_of_nobody(db, 0, retention.CHUNK_ROWS)
        await links.let_go_of_calls(db, ids)
        kept = [Kept(f"imin/main/{event}/face", "imin", "main", event) for event in ids]
        await blob_notes.note_put(db, kept)
        await blobs.note_found(db, [Kept.named("imin/main/file", "imin", "main", None)])
        await blobs.let_go(db, ids)
        await db.execute("ANALYZE blobs")
        assert await blobs.due(db, 100, found=True, bodies=True) == []

    assert [] == found.wrong


async def test_what_operators_do_again_or_discard(db: Any, found: Found) -> None:
    """A step of a replay or a discard costs the same whatever is stored, also where it means next to nothing."""
    now = datetime.now(UTC)
    newest = await db.fetchval("SELECT id FROM events ORDER BY id DESC LIMIT 1")
    for meant in (
        selecting.Selection(ids=[newest]),
        selecting.Selection(provider="imin", account="main", kind="none"),
        selecting.Selection(state="failed"),
        selecting.Selection(state="done", since=now - timedelta(days=3), until=now - timedelta(days=2)),
        selecting.Selection(error="refused"),
    ):
        step = await anext(selecting.steps(db, meant, newest if meant.error else selecting.BEGINNING, 500))
        await selecting.locked(db, meant, step.ids)
        await touching.touched(db, step.ids)
    await _drain(replaying.replay(db, selecting.Selection(ids=[newest]), note="because"))
    parked = handover_selecting.Selection(handler="crm", state="parked")
    await _drain(handover_replaying.replay(db, parked, note="because"))
    await _drain(handover_discarding.discard(db, parked._replace(handler="shop"), note="because"))
    for some in (
        handover_selecting.Selection(ids=[1, 2, STORED]),
        handover_selecting.Selection(handler="crm", kind="none", since=now, until=now),
        handover_selecting.Selection(provider="imin"),
    ):
        await anext(handover_selecting.steps(db, some, handover_selecting.BEGINNING, 500))
    await handover_selecting.refuse_missing(db, handover_selecting.Selection(changes=[7, STORED]))

    assert [] == found.wrong
    assert len(found.statements) > 15


async def test_what_is_read_all_the_time(engine: AsyncEngine, plain: asyncpg.Connection) -> None:
    """Stats, accounts, the feed, one event: each costs the same whatever is stored."""
    sent = _record(engine)
    newest = await plain.fetchval("SELECT id FROM events ORDER BY id DESC LIMIT 1")
    await stats(engine, None, ["imin", "magicline"])
    async with reading(engine) as connection:
        await list_accounts(connection, [("imin", _ACCOUNT)], None)
        await _drain(changes_after(connection, STORED - 10))
        await _drain(changes_after(connection, 0, limit=50))
        await _drain(newest_changes(connection))
        await show_event(connection, newest, lambda *_: "")
        await head_of(connection, newest)
        await body_of(connection, newest)
        await _read_lists(connection)

    assert [] == [said for query, arguments in sent for said in await problems(plain, query, arguments, kept=False)]
    assert len(sent) > 10


_ACCOUNT = IminAccount(
    name="main", base_url="http://127.0.0.1:1", webhook_keys=(SecretStr("in"),), api_key=SecretStr("out")
)


async def _read_lists(connection: AsyncConnection) -> None:
    for filters in (
        Filters(),
        Filters(provider="imin", account="main"),
        Filters(state="failed"),
        Filters(state="parked"),
    ):
        await _drain(list_events(connection, filters))
    await _drain(list_records(connection, provider="imin", account="main", kind="imin.customer-account"))
    await dead_letters(connection)
    await list_replays(connection, unfinished=True)
    await show_handover(connection, STORED)
    for some in (
        handovers.Filters(),
        handovers.Filters(handler="crm", state="parked"),
        handovers.Filters(state="waiting", kind="none"),
        handovers.Filters(since=datetime.now(UTC) + timedelta(hours=2)),
    ):
        await _drain(list_handovers(connection, some))
    await _drain(list_records(connection))


def _record(engine: AsyncEngine) -> list[tuple[str, list[Any]]]:
    """Every statement that the engine sends from now on, with its arguments."""
    sent: list[tuple[str, list[Any]]] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "pg_catalog" not in statement:
            sent.append((statement, list(parameters)))

    return sent


async def _drain(batches: AsyncIterator[Any]) -> None:
    async for _ in batches:
        pass


def _call(number: int) -> Call:
    return Call(path=f"/api/v2/customer-accounts/c-{number}", purpose="customer-account")
