"""Finding events by any filter looks at a few rows only, however many are stored."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from ops.bench.filling import fill
from ops.embedded.postgres import Postgres
from plans import problems
from shared.providers.account import AccountSettings
from shared.store.reading.accounts import list_accounts
from shared.store.reading.browsing import Shelf, browse, places
from shared.store.reading.connecting import reading, reading_engine
from shared.store.reading.differences import differences_of
from shared.store.reading.effects import duplicates_of, effects_of, handovers_of, history_of, record_of
from shared.store.reading.searching import Group, Search, search_events, search_group, states_of_group
from shared.store.reading.shapes import Event


STORED = 20_000
NOW = datetime.now(UTC)

# What people look for is rare among what is done: one in ten failed, one in five hundred of another provider.
_VARIED = (
    "ALTER TABLE events DISABLE TRIGGER USER",
    """
    UPDATE events SET state = 'failed', error_reason = 'refused',
                      error_detail = 'the API answered 410 for ' || right(id::text, 4)
    WHERE ('x' || right(id::text, 6))::bit(24)::int % 10 = 0
    """,
    """
    UPDATE events SET state = 'parked', error_reason = 'unknown-type', error_detail = 'zebra', provider = 'magicline',
                      account = 'studio', event_types = '{CUSTOMER_UPDATED,CONTRACT_UPDATED}'
    WHERE ('x' || right(id::text, 6))::bit(24)::int % 500 = 7
    """,
    "ALTER TABLE events ENABLE TRIGGER USER",
    """
    INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
    SELECT 'imin', 'main', 'imin.customer-account', 'c-' || n, '{}', n, now(), now() FROM generate_series(1, 20000) AS n
    """,
    """
    INSERT INTO changes (seq, op, provider, account, kind, external_id, changed, event_id)
    SELECT row_number() OVER (), 'created', 'imin', 'main', 'imin.customer-account', 'c-' || row_number() OVER (), '{}',
           id
    FROM events
    """,
    """
    INSERT INTO handovers (handler, change_id, seq, lane, state) SELECT 'crm', id, id, id, 'done' FROM changes
    """,
    "VACUUM (ANALYZE)",
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def searched(postgres: Postgres, template: str) -> str:
    """A database in which much has happened, with up-to-date statistics."""
    name = f"searched_{uuid.uuid4().hex}"
    base = postgres.url.rpartition("/")[0]

    async def populate() -> None:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        await connection.close()
        await fill(f"{base}/{name}", STORED, lambda _: None)
        connection = await asyncpg.connect(f"{base}/{name}")
        for statement in _VARIED:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(populate())
    return f"{base}/{name}"


@pytest.fixture
async def engine(searched: str) -> AsyncIterator[AsyncEngine]:
    """The engine that the console reads with."""
    made = reading_engine(searched)
    yield made
    await made.dispose()


def sent_by(engine: AsyncEngine) -> list[tuple[str, list[Any]]]:
    """Every statement that the engine sends from now on, with its arguments."""
    sent: list[tuple[str, list[Any]]] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "pg_catalog" not in statement:
            sent.append((statement, list(parameters)))

    return sent


async def wrong_with(searched: str, sent: list[tuple[str, list[Any]]]) -> list[str]:
    """What the plans of these statements read that they should not."""
    plain = await asyncpg.connect(searched, server_settings={"jit": "off"})
    try:
        said = []
        for query, arguments in sent:
            if query.startswith("SET LOCAL"):
                await plain.execute(query.replace("LOCAL ", ""))
            else:
                said += await problems(plain, query, arguments, kept=False)
        return said
    finally:
        await plain.close()


SEARCHES = {
    "nothing": (Search(), 51),
    "provider": (Search(provider="imin"), 51),
    "a rare provider": (Search(provider="magicline"), 40),
    "a provider without events": (Search(provider="authenteq"), 0),
    "account": (Search(account="studio"), 40),
    "provider and account": (Search(provider="magicline", account="studio"), 40),
    **{f"state {state}": (Search(state=state), 0) for state in ("received", "processing", "waiting", "duplicate")},
    "state done": (Search(state="done"), 51),
    "state failed": (Search(state="failed"), 51),
    "state parked": (Search(state="parked"), 40),
    "state quarantined": (Search(state="quarantined"), 0),
    "discarded": (Search(discarded=True), 0),
    "discarded of a provider": (Search(provider="imin", discarded=True), 0),
    "a usual type": (Search(type="CustomerAccount"), 51),
    "a first type": (Search(type="CUSTOMER_UPDATED"), 40),
    "a second type": (Search(type="CONTRACT_UPDATED"), 40),
    "no such type": (Search(type="NOPE"), 0),
    "since": (Search(since=NOW - timedelta(minutes=1)), 51),
    "until": (Search(until=NOW - timedelta(days=2)), 0),
    "entity": (Search(entity="c-77"), 1),
    "no such entity": (Search(entity="c-nope"), 0),
    "usual words": (Search(words="refused"), 51),
    "rare words": (Search(words="zebra"), 40),
    "words of one": (Search(words="410 0000"), 0),
    "words of none": (Search(words="nonesuch"), 0),
    "provider and state": (Search(provider="imin", state="failed"), 51),
    "state and words": (Search(state="failed", words="410"), 51),
}


@pytest.mark.parametrize("name", SEARCHES)
async def test_a_search_reads_a_few_rows(name: str, engine: AsyncEngine, searched: str) -> None:
    """And finds what is there; the second page goes on behind the first."""
    search, found = SEARCHES[name]
    sent = sent_by(engine)
    async with reading(engine) as connection:
        shown = await search_events(connection, search, limit=51)
        if len(shown) == 51:
            older = await search_events(connection, search._replace(before=shown[-1].id), limit=51)
            assert _ids(older)[:1] < _ids(shown)[-1:]
    assert found == len(shown)
    assert sorted(_ids(shown), reverse=True) == _ids(shown)
    assert [] == await wrong_with(searched, sent)


async def test_what_the_pages_of_one_thing_read(engine: AsyncEngine, searched: str) -> None:
    """An event's effects and duplicates, a record with its history, a page of records, a group that waits."""
    sent = sent_by(engine)
    key = ("imin", "main", "imin.customer-account", "c-77")
    async with reading(engine) as connection:
        (one,) = await search_events(connection, Search(), limit=1)
        effects = await effects_of(connection, one.id)
        await handovers_of(connection, effects)
        await duplicates_of(connection, one.id)
        assert None is not await record_of(connection, key)
        assert 1 == len(await history_of(connection, key))
        known = await places(connection)
        for shelf in (Shelf(), Shelf(kind="imin.customer-account", after=key), Shelf(external_id="c-77")):
            assert await browse(connection, shelf, known, limit=51)
        assert 20 == len(await search_group(connection, Group("imin", "refused"), limit=20))
        assert ["failed"] == await states_of_group(connection, Group("imin", "refused"))
        assert await differences_of(connection, [effect.id for effect in effects]) == {}
    assert [] == await wrong_with(searched, sent)


async def test_when_accounts_last_spoke_is_found_in_a_few_rows(engine: AsyncEngine, searched: str) -> None:
    """Also of accounts that never did: nobody walks through the events of all the others for them.

    What a planner takes for cheaper among millions, only `penstock bench --only console` shows.
    """
    accounts = [
        (provider, AccountSettings(name=name, base_url="https://api.example.com"))
        for provider, name in (("imin", "main"), ("magicline", "studio"), ("imin", "another"), ("paybook", "main"))
    ]
    sent = sent_by(engine)
    async with reading(engine) as connection:
        found = await list_accounts(connection, accounts, None)
    assert [True, True, False, False] == [account.last_event_at is not None for account in found]
    assert [] == await wrong_with(searched, sent)


def _ids(shown: list[Event] | Any) -> list[UUID]:
    return [each.id for each in shown]
