"""A reconciliation against the lab's APIs and a real store: what it finds, where it stops, and how it goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis as redis_client
from pydantic import SecretStr

from ops.embedded.redis import Redis
from ops.lab.faults import Fault
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from shared import reconciled
from shared.budgets import Budgets
from shared.circuits import FAILURES_TO_OPEN
from shared.configuration import read_configuration
from shared.providers.interface import Record
from shared.sealing import Keys, generate_key
from shared.settings import Settings
from shared.store.gaps import reconciling, walks
from shared.store.gaps.walks import Tally
from shared.store.locking import alone
from shared.store.opening import resource_key
from shared.store.records import recording
from support.budget_log import budget_log, most_within
from support.conditions import HANG_SECONDS
from workers.reconcile.reconciling import Reconciliation, Report
from workers.reconcile.surveying import Surveyor, surveyor


pytestmark = pytest.mark.anyio

STUDIO = "studio-berlin"
CUSTOMERS = 400


@pytest.fixture(scope="module")
def world() -> Iterator[Lab]:
    """One lab for all tests here: they change nothing in its world."""
    with running_lab(seed=31) as lab:
        yield lab


@pytest.fixture
def lab(world: Lab) -> Iterator[Lab]:
    """The lab without limits; it behaves again afterwards."""
    world.set_limits({name: Limit(calls=0, seconds=1) for name in ("magicline", "paybook")})
    yield world
    world.reset()


@dataclass
class Bench:
    """What a walk needs, for as many walks as a test wants."""

    db: asyncpg.Connection
    asking: Surveyor
    keys: Keys
    lab: Lab
    toml: Path
    budget: str

    async def run(self, provider: str = "magicline", account: str = STUDIO, **how: Any) -> Report:
        """One walk."""
        retry = {"base_seconds": 0.01, "max_seconds": how.pop("max_seconds", 0.05)}
        text = self.lab.config_toml(retry).replace("base_url =", f"budget = {self.budget}\nbase_url =")
        self.toml.write_text(text + how.pop("toml", ""))
        configuration = read_configuration(self.toml)
        owner = configuration.accounts[provider][account]
        walk = Reconciliation(how.pop("db", self.db), self.asking, self.keys, configuration, provider, owner)
        return await walk.run(**how)

    async def know(self, *records: Record, provider: str = "magicline", account: str = STUDIO) -> None:
        """These records are known."""
        began = await self.db.fetchval("SELECT nextval('claims')")
        async with self.db.transaction():
            await recording.apply(
                self.db, [recording.Sighting(provider, account, record, began, None) for record in records]
            )

    async def know_customers(self, *but: int) -> None:
        """The studio's customers as the lab shows them, but for some."""
        known = [which for which in range(1001, 1001 + CUSTOMERS) if which not in but]
        await self.know(*[self.customer(which) for which in known])

    async def close_circuit(self, redis: Redis) -> None:
        """As the look-out of a worker does when its probe is answered."""
        budgets = Budgets(redis.url)
        owner = read_configuration(self.toml).accounts["magicline"][STUDIO]
        assert await budgets.circuits.close("magicline", owner)
        await budgets.close()

    def customer(self, which: int) -> Record:
        """A customer as the lab shows it."""
        data = self.lab.world("magicline", "customer", str(which), STUDIO)
        assert data is not None
        return Record("magicline.customer", str(which), data.decode())

    async def events(self) -> list[asyncpg.Record]:
        """What was made."""
        return await self.db.fetch("SELECT * FROM events ORDER BY id")

    async def calls_made(self) -> list[str]:
        """The paths that the events ask for."""
        bodies = [(row["id"], row["body"]) for row in await self.events()]
        return sorted(
            call.path for event, body in bodies for call in reconciled.decode(self.keys.unseal(body, event)).calls
        )

    def asked(self, path: str) -> int:
        """How often the lab was asked for a path."""
        return int(self.lab.calls("magicline", path)["total"])


@pytest.fixture
async def bench(lab: Lab, database_url: str, redis: Redis, tmp_path: Path) -> AsyncIterator[Bench]:
    """A store and a Redis of this test's own."""
    connection = await asyncpg.connect(database_url)
    settings = Settings(redis_url=SecretStr(redis.url))
    keys = Keys.parse([SecretStr(generate_key())])
    async with surveyor(settings) as asking:
        yield Bench(connection, asking, keys, lab, tmp_path / "penstock.toml", "{ calls = 0 }")
    await connection.close()
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushdb()  # the next test's walk has the same account: no circuit, no pause


async def test_what_is_missing_or_differs_is_asked_for_by_its_id(bench: Bench) -> None:
    """One event each, marked, with the read that its deliveries would have led to; nothing else."""
    await bench.know_customers(1010, 1020)
    await bench.know(bench.customer(1030)._replace(data='{"id": 1030, "email": "old@example.org"}'))

    report = await bench.run()

    assert (None, Tally(CUSTOMERS, 2, 1, 3)) == (report.stopped, report.tally)
    assert ["/v1/customers/1010", "/v1/customers/1020", "/v1/customers/1030"] == await bench.calls_made()
    rows = await bench.events()
    assert {(True, "received", ("reconciled",))} == {
        (row["reconciled"], row["state"], tuple(row["event_types"])) for row in rows
    }
    told = await bench.db.fetchval("SELECT detail FROM timeline WHERE event_id = $1", rows[0]["id"])
    assert "magicline.customer 1010 is missing" == told


async def test_members_that_the_list_does_not_show_say_nothing(bench: Bench) -> None:
    """A list may show less than the read by id does."""
    await bench.know_customers(1010)
    shown = (bench.customer(1010).data or "")[:-1]
    await bench.know(bench.customer(1010)._replace(data=f'{shown}, "bankAccount": {{"iban": "DE91"}}}}'))

    assert Tally(CUSTOMERS, 0, 0, 0) == (await bench.run()).tally


async def test_a_second_walk_asks_for_nothing_twice(bench: Bench) -> None:
    """While the events of the first wait for a worker, and when the same pages are gone through again."""
    await bench.know_customers(1010, 1020)
    await bench.run()

    again = await bench.run()

    assert (2, 0) == (again.tally.missing, again.tally.repaired)
    assert 2 == len(await bench.events())


async def test_what_was_given_up_is_asked_for_again(bench: Bench) -> None:
    """A failed repair is no repair."""
    await bench.know_customers(1010)
    await bench.run()
    await bench.db.execute("UPDATE events SET state = 'processing'")
    await bench.db.execute("UPDATE events SET state = 'failed'")

    assert 1 == (await bench.run()).tally.repaired


async def test_a_repair_that_levelled_nothing_is_asked_for_again_once_a_walk(bench: Bench) -> None:
    """It may have been given a stale answer: the difference is the same one, and would stay for good."""
    await bench.know_customers()
    await bench.know(bench.customer(1030)._replace(data='{"id": 1030, "email": "old@example.org"}'))
    made = []
    for _ in range(2):
        assert 1 == (await bench.run()).tally.repaired
        await bench.db.execute("UPDATE events SET state = 'done', finished_at = now() WHERE state = 'received'")
        made.append(len(await bench.events()))
    assert [1, 2] == made

    await bench.db.execute("UPDATE reconciliations SET position = '{}', finished_at = NULL WHERE id = 2")
    report = await bench.run()
    assert (True, 1) == (report.resumed, report.tally.repaired)
    assert 2 == len(await bench.events())


async def test_a_difference_that_stays_is_asked_for_once(bench: Bench) -> None:
    """The list and the read by id disagree; an address that is another one each time is no new difference."""
    await bench.know_customers()
    await bench.know(bench.customer(1030)._replace(data='{"id": 1030, "email": "old@example.org"}'))
    shown = Record("magicline.customer", "1030", '{"id": 1030, "email": "new@example.org", "imageUrl": "%s"}')
    walk = await walks.open_walk(bench.db, "magicline", STUDIO, None, dry_run=True)
    asked_at = await bench.db.fetchval("SELECT clock_timestamp()")

    found = [
        await reconciling.compare(
            bench.db,
            walk,
            [shown._replace(data=(shown.data or "") % address)],
            asked_at,
            whole=False,
            ignored=frozenset({"imageUrl"}),
        )
        for address in ("https://a.example/1", "https://a.example/2")
    ]

    assert [["email"], ["email"]] == [list(difference.members) for (difference,) in found]
    assert 1 == len({difference.fingerprint for (difference,) in found})


async def test_what_is_being_fetched_anyway_was_not_missed(bench: Bench) -> None:
    """A delivery came, its call is only not made yet."""
    await bench.know_customers(1010)
    await bench.run()
    (event,) = await bench.events()
    call = reconciled.decode(bench.keys.unseal(event["body"], event["id"])).calls[0]
    await bench.db.execute(
        """
        INSERT INTO fetches (provider, account, resource, path, purpose, context, pick, missing, page, completes)
        VALUES ('magicline', $1, $2, $3, 'customer', '{}', '', 'retry', 1, false)
        """,
        STUDIO,
        resource_key("magicline", STUDIO, call),
        call.path,
    )

    assert (0, 0) == (await bench.run()).tally[1:3]


async def test_a_walk_goes_on_where_it_stopped(bench: Bench) -> None:
    """What was gone through is not asked again, and the counts are of both."""
    await bench.know_customers(1010)
    bench.lab.set_faults(Fault(kind="not-json", path="classes/booking"))
    stopped = await bench.run()
    assert stopped.stopped is not None
    assert "GET /v1/classes/booking?customerId=1001: " in stopped.stopped
    lists, bookings = bench.asked("/v1/customers?"), bench.asked("/v1/appointments/booking?")
    bench.lab.set_faults()

    report = await bench.run()

    assert (True, None) == (report.resumed, report.stopped)
    assert (CUSTOMERS, 1) == (report.tally.looked_at, report.tally.missing)
    assert (lists, bookings) == (bench.asked("/v1/customers?"), bench.asked("/v1/appointments/booking?"))
    assert 1 == len(await bench.events())
    assert 0 == await bench.db.fetchval("SELECT count(*) FROM reconciliation_sights")


async def test_a_page_that_is_gone_through_again_after_a_death_makes_nothing_twice(bench: Bench) -> None:
    """As if the process had died before its position was written down."""
    await bench.know_customers(1010)
    bench.lab.set_faults(Fault(kind="not-json", path="/v1/appointments"))
    await bench.run()
    await bench.db.execute("UPDATE reconciliations SET position = '{}'")
    await bench.run()

    assert 1 == len(await bench.events())


async def test_a_dry_run_changes_nothing(bench: Bench) -> None:
    """No event, and a walk that stopped keeps its place."""
    await bench.know_customers(1010)
    bench.lab.set_faults(Fault(kind="not-json", path="classes/booking"))
    await bench.run()
    bench.lab.set_faults()
    events = len(await bench.events())

    report = await bench.run(dry_run=True)

    assert (False, 1, 0) == (report.resumed, report.tally.missing, report.tally.repaired)
    assert events == len(await bench.events())
    assert (await bench.run()).resumed


async def test_one_process_at_a_time_reconciles_an_account(bench: Bench, database_url: str) -> None:
    """The other one says so."""
    other = await asyncpg.connect(database_url)
    async with alone(other, "reconcile", "magicline", STUDIO):
        assert "another process reconciles this account now" == (await bench.run()).stopped
    await other.close()
    assert (await bench.run()).stopped is None


async def test_only_what_the_api_no_longer_has_is_taken_for_gone(bench: Bench) -> None:
    """A record that the list lacks is asked for by its id first; the lab has customer 5,000, but does not list it."""
    await bench.know_customers()
    await bench.know(bench.customer(5000), Record("magicline.customer", "99999999", '{"id": 99999999}'))

    report = await bench.run()

    assert (0, 1, 1) == report.tally[1:]
    assert ["/v1/customers/99999999"] == await bench.calls_made()


async def test_what_changed_here_after_the_answer_does_not_differ(bench: Bench) -> None:
    """The record is newer than the list: a delivery was quicker."""
    await bench.know_customers()
    await bench.db.execute("UPDATE records SET data = '{}', changed_at = now() + interval '1 hour'")

    assert (0, 0, 0) == (await bench.run()).tally[1:]


async def test_a_refused_key_stops_the_walk_with_what_to_do(bench: Bench) -> None:
    """No call after the first ones."""
    bench.lab.set_faults(Fault(kind="status", path="/v1/customers", status=401))
    report = await bench.run()
    assert f"check the API key of {STUDIO}: the API answered 401" == report.stopped
    assert 1 == bench.asked("/v1/customers")


@pytest.mark.parametrize("status", [401, 402])
async def test_a_refused_key_opens_the_circuit(bench: Bench, status: int) -> None:
    """Live events of the account need not find it out for themselves; the next walk asks nothing while it is open."""
    bench.lab.set_faults(Fault(kind="status", path="/v1/customers", status=status))
    await bench.run()
    bench.lab.set_faults()

    report = await bench.run()

    assert f"check the API key of {STUDIO}: the API answered {status}" == report.stopped
    assert 1 == bench.asked("/v1/customers")


async def test_an_api_that_is_down_opens_the_circuit_and_stops_the_walk(bench: Bench, redis: Redis) -> None:
    """Ten failures in a row are enough for everybody; when it takes calls again, the walk goes on where it stopped."""
    await bench.know_customers(1010)
    bench.lab.set_faults(Fault(kind="status", path="booking", status=503))
    stopped = await bench.run()
    called = bench.asked("booking")
    again = await bench.run()

    # Whether the walk sees its own last failure or the open circuit first is up to the machine.
    assert stopped.stopped in {"the API answered 503", "magicline is down: the API answered 503"}
    assert again.stopped in {"the API answered 503", "magicline is down: the API answered 503"}
    assert (True, called) == (called < 2 * FAILURES_TO_OPEN["down"], bench.asked("booking"))
    bench.lab.set_faults()
    await bench.close_circuit(redis)
    assert (True, None) == ((report := await bench.run()).resumed, report.stopped)


async def test_an_api_that_fails_now_and_then_is_not_down(bench: Bench) -> None:
    """What was shown ends a row of failures; each call is tried again by itself."""
    await bench.know_customers(1010)
    bench.lab.set_faults(Fault(kind="status", path="booking", status=503, times=1, probability=0.3))

    report = await bench.run()

    assert (None, 1) == (report.stopped, report.tally.missing)


async def test_a_429_is_kept_away_from_for_as_long_as_the_provider_asks(bench: Bench) -> None:
    """``retry.max_seconds`` bounds our own patience, not the provider's word; nobody of the account calls meanwhile."""
    await bench.know_customers()
    fault = Fault(kind="status", path=r"/v1/customers\?", status=429, times=1, retry_after="2")
    bench.lab.set_faults(fault)

    report = await bench.run(max_seconds=0.05)

    first, second, *_ = sorted(call["at"] for call in bench.lab.calls("magicline", "/v1/customers?")["calls"])
    assert report.stopped is None
    assert second - first >= 2


async def test_after_a_429_the_accounts_own_penalty_counts(bench: Bench) -> None:
    """The settings know better than the provider's documents, which say a minute."""
    await bench.know_customers()
    bench.budget = "{ calls = 0, penalty_seconds = 0.1 }"
    bench.lab.set_faults(Fault(kind="status", path=r"/v1/customers\?", status=429, times=1))

    async with asyncio.timeout(HANG_SECONDS):
        report = await bench.run(max_seconds=100.0)

    assert report.stopped is None


async def test_only_404_means_gone(bench: Bench) -> None:
    """410 is final for a fetch: taken for gone here, each walk would make another event that fails."""
    await bench.know_customers()
    await bench.know(Record("magicline.customer", "99999999", '{"id": 99999999}'))
    bench.lab.set_faults(Fault(kind="status", path="/v1/customers/99999999", status=410))

    report = await bench.run()

    assert (None, 0) == (report.stopped, report.tally.repaired)
    assert "some customers are not shown to this account's key (403, 404 or 410)" in report.notes


async def test_a_list_that_is_not_shown_is_said(bench: Bench) -> None:
    """A key without the scope for it."""
    bench.lab.set_faults(Fault(kind="status", path="/v1/customers", status=403))
    report = await bench.run()
    assert "magicline does not show its list: GET /v1/customers?sliceSize=500 is refused" == report.stopped


async def test_a_list_without_end_ends_at_the_bound(bench: Bench) -> None:
    """What its pages showed is compared, and the report says that there was more."""
    await bench.know_customers(1010)
    bench.lab.set_faults(Fault(kind="endless-pages", path=r"/v1/customers\?"))

    report = await bench.run(toml="\n[following_up]\nmax_pages = 3\n")

    assert (None, 1) == (report.stopped, report.tally.repaired)
    assert any("a list goes on without end" in note for note in report.notes)


async def test_calls_leave_the_reserved_share_to_live_events(bench: Bench, redis: Redis) -> None:
    """Of 20 calls a second at most half are a walk's."""
    await bench.know_customers()
    bench.budget = "{ calls = 20, seconds = 1 }"
    bench.lab.set_faults(Fault(kind="status", path="customerId=1040", status=401))

    with budget_log(redis.url, "magicline", STUDIO, "appointments") as budgets:
        await bench.run()

    assert len(budgets.taken) >= 30
    assert most_within(budgets.taken, 1.0) <= 10
