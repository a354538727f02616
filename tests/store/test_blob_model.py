"""Blobs and their rows under arbitrary faults of all stores, deaths between any two steps, retention and erasure.

Postgres and Redis are real, the objects lie in a real store in memory; each operation of each may be refused, may be
done without an answer, or may be the last one of its process. Whatever happens: no row without its blob; and once a day
has passed in which the stores answer, no blob without a row, no row of a blob without it, no fetch without an event.

``PENSTOCK_TEST_FAULTS=1000000`` goes on until so many faults have come to pass.
"""

import asyncio
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pydantic import SecretStr
from redis.asyncio import Redis as Client

from faulty import FAULTS, Died, Faults, FaultyBlobs, FaultyPostgres, FaultySpool, Hand, objects
from ops.embedded.redis import Redis
from shared.blob_keys import body_key
from shared.blob_removal import Removal
from shared.configuration import Configuration, read_configuration
from shared.errors import StoreAway
from shared.providers.interface import Blob, Call, Outcome, Record
from shared.sealing import Keys, generate_key
from shared.store import erasing, fetching, leases, planning, replaying, retention_guard, returning
from shared.store.fairness import Room
from shared.store.fetching import ClaimedFetch, Result
from shared.store.inbox import NewEvent, insert
from shared.store.pacing import Pace
from shared.store.planning import ClaimedEvent, Planned
from shared.store.postgres import AWAY
from workers.follow_up.blobs import put_blobs
from workers.relay.draining import Draining
from workers.relay.retaining import Retaining


T = TypeVar("T")

TABLES = (
    "events, identities, fetches, event_fetches, records, changes, timeline, tallies, worker_processes, blobs,"
    " retention, answers"
)
ACCOUNT = "main"
KEYS = Keys.parse([SecretStr(generate_key())])
RETENTION = "[retention]\nbodies = 10\nimages = 15\ntimeline = 20\nchanges = 20\ndeleted_records = 20\nevents = 30\n"
PLACES = (*range(9), 10, 12, 15, 18, 22, 27, 33, 40)
"""Of the operations of a move: most moves have a few, retention some dozens."""
WANTED_FAULTS = int(os.environ.get("PENSTOCK_TEST_FAULTS", "0"))


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that happens, or two side by side; ``faults`` are by the operation of which it is the how-manieth."""

    what: str
    number: int = 0
    days: int = 0
    provider: str = "authenteq"
    this: bool = False
    faults: tuple[tuple[int, str], ...] = ()


MOVES = st.builds(
    Move,
    what=st.sampled_from(
        (
            *5 * ["receive"],
            *5 * ["plan"],
            *4 * ["fetch"],
            *4 * ["retain"],
            *3 * ["half_a_day"],
            *2 * ["drain"],
            *2 * ["replay"],
            *("erase", "erase", "account", "delete_record"),
        )
    ),
    number=st.integers(0, 3),
    days=st.sampled_from((0, 0, 11, 16, 31)),
    provider=st.sampled_from(("authenteq", "paybook")),
    this=st.booleans(),
    faults=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(FAULTS)),
        max_size=3,
        unique_by=lambda fault: fault[0],
    ).map(tuple),
)


class Blobs(RuleBasedStateMachine):
    """Ingress, a worker, a relay and an operator on stores that fail."""

    url = ""
    redis_url = ""
    configuration: Configuration
    faults_done = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.faults = Faults()
        self.blobs = FaultyBlobs(KEYS, self.faults)
        self.db = self.do(_connect(self.url))
        self.redis = Client.from_url(self.redis_url)
        self.do(self.db.execute(f"TRUNCATE {TABLES}"))
        self.do(self.redis.flushall())
        self.worker = uuid4()
        self.gone = False
        self.spool = FaultySpool(self.redis, self.faults)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end."""
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        """After a day without faults nothing is left over."""
        try:
            self.do(self.settle())
            self.do(self.check())
            self.do(self.check_nothing_is_left_over())
        finally:
            Blobs.faults_done += self.faults.done
            self.do(self.db.close())
            self.do(self.redis.aclose())
            self.loop.close()

    @rule(moves=st.lists(MOVES, min_size=10, max_size=20))
    def happen(self, moves: Sequence[Move]) -> None:
        """What is next."""
        for move in moves:
            self.do(self.happens(move))

    async def happens(self, move: Move) -> None:
        """With its faults; then whatever a dead process held is due again."""
        self.faults.begin(dict(move.faults))
        act: Callable[[Move, Any], Awaitable[None]] = getattr(self, move.what)
        try:
            await act(move, FaultyPostgres(self.db, self.faults))
        except Died:
            await self.db.close()
            self.db = await _connect(self.url)
        except (StoreAway, *AWAY):
            await self.db.execute("SELECT pg_advisory_unlock_all()")
        self.faults.begin({})
        await leases.leave(self.db, self.worker)
        await self.check()

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────

    async def receive(self, move: Move, db: Any) -> None:
        """As ingress does: the blob, then the row, in Postgres or in the spool; or 503, and nothing is promised."""
        moment = datetime.now(UTC) - timedelta(days=move.days)
        event = UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (uuid4().int & ((1 << 76) - 1)))
        key = body_key(f"{moment:%Y-%m-%d}", move.provider, ACCOUNT, event)
        row = NewEvent(event, move.provider, ACCOUNT, moment, "postgres", "", [], None, key, 4, b"0" * 32)
        await self.blobs.put(key, b"%d" % move.number, event)
        try:
            await insert(db, [row])
        except AWAY:
            await self.spool.append([row._replace(durability="spool")], 1.0)

    async def drain(self, _: Move, db: Any) -> None:
        """As the relay does."""
        await Draining(self.spool, (), lambda _provider, _ids: None).drain(db)

    async def plan(self, move: Move, db: Any) -> None:
        """A worker plans a few events: images and a record at once, or a call for a file."""
        claimed = await planning.claim(db, move.provider, Room.of(2), self.worker)
        plans = [await self.planned(event, db) for event in claimed]
        await planning.commit(db, plans, 0)

    async def planned(self, event: ClaimedEvent, db: Any) -> Planned:
        """What its body says; one whose account is gone is parked."""
        if self.gone:
            return Planned(event, parked=("account-removed", "it is not configured"))
        if event.blob is None:
            return Planned(event, parked=("poison", "its body is not kept any more"))
        number = int(await self.blobs.read(event.blob, event.id))
        if event.provider == "paybook":
            return Planned(event, ("t",), calls=[Call(f"/v1/attachments/{number}", "file")])
        images = [Blob(f"authenteq/{ACCOUNT}/{event.id}/{name}", b"image", "") for name in ("face", "back")]
        await put_blobs(Hand(db, self.blobs), ("authenteq", ACCOUNT), images, event.id)  # type: ignore[arg-type]
        data = msgspec.json.encode({"face": {"blob": images[0].key}}).decode()
        return Planned(event, ("t",), records=[Record("authenteq.verification", f"v{number}", data)])

    async def fetch(self, move: Move, db: Any) -> None:
        """A worker makes a few calls; what a file holds is new now and then, and two may hold the same."""
        claimed = await fetching.claim(db, "paybook", Room.of(2), self.worker)
        for fetch in claimed:
            result = self.answered(fetch, move)
            await put_blobs(Hand(db, self.blobs), ("paybook", ACCOUNT), result.outcome.blobs)  # type: ignore[arg-type]
            await fetching.commit(db, [result], 0)

    def answered(self, fetch: ClaimedFetch, move: Move) -> Result:
        """Its file."""
        content = b"content %d" % move.number
        digest = hashlib.sha256(content).hexdigest()
        blob = Blob(f"paybook/{ACCOUNT}/{digest}", content, "")
        data = msgspec.json.encode({"blob": blob.key}).decode()
        return Result(
            fetch, "done", Outcome([Record("paybook.attachment", fetch.call.path, data)], blobs=[blob]), status=200
        )

    async def retain(self, move: Move, db: Any) -> None:
        """As the relay does, its rounds over or not."""
        if move.this:
            await self.db.execute("UPDATE retention SET round_at = 'epoch', moved_at = now()")
        look = Retaining(db, self.blobs, self.configuration, spool=self.spool)
        await look.look()

    async def half_a_day(self, _: Move, db: Any) -> None:  # noqa: ARG002 - time does not fail
        """Passes."""
        await self.db.execute(
            """
            UPDATE blobs SET look_at = look_at - interval '12 hours', put_at = put_at - interval '12 hours'
            """
        )
        await self.db.execute("UPDATE retention SET round_at = round_at - interval '12 hours'")

    async def replay(self, move: Move, db: Any) -> None:
        """An operator replays what is in a state."""
        selection = replaying.Selection(provider=move.provider, state="done" if move.this else "parked")
        async for _ in replaying.replay(db, selection, note="because", pace=Pace(500, 0)):
            pass

    async def account(self, _: Move, db: Any) -> None:
        """An account goes, or returns."""
        self.gone = not self.gone
        if not self.gone:
            await returning.go_on(db, [("paybook", ACCOUNT), ("authenteq", ACCOUNT)])

    async def erase(self, move: Move, db: Any) -> None:
        """An operator erases a subject: events, then records, then what nobody names; nothing is under way."""
        doomed = [row["id"] for row in await db.fetch("SELECT id FROM events ORDER BY id")][move.number :: 4]
        await erasing.erase_events(db, doomed)
        kind, name = {
            "paybook": ("paybook.attachment", f"/v1/attachments/{move.number}"),
            "authenteq": ("authenteq.verification", f"v{move.number}"),
        }[move.provider]
        await erasing.erase_records(db, [(kind, name)], move.provider, ACCOUNT)
        await self.db.execute("UPDATE blobs SET put_at = put_at - interval '5 minutes'")
        await Removal(db, self.blobs, self.spool).remove_of(move.provider, ACCOUNT)

    async def delete_record(self, move: Move, db: Any) -> None:
        """A record was deleted at its provider a while ago."""
        await db.execute(
            "UPDATE records SET deleted_at = now() - make_interval(days => $2) WHERE external_id = $1",
            f"/v1/attachments/{move.number}",
            move.days,
        )

    # ── promises ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def check(self) -> None:
        """No row without its blob, whether in Postgres or in the spool."""
        there = set(objects(self.blobs))
        named = await self.named()
        assert set() == named - there, "a row names a blob that is not there"
        spooled = await self.spool.blobs()
        assert spooled is not None
        known = {
            row["blob"] for row in await self.db.fetch("SELECT blob FROM events WHERE id = ANY($1)", _ids(spooled))
        }
        assert set() == spooled - there - known, "an entry of the spool names a blob that is not there"

    async def named(self) -> set[str]:
        """What events, their images and records of files name."""
        rows = await self.db.fetch(
            """
            SELECT blob FROM events WHERE blob IS NOT NULL
            UNION SELECT data ->> 'blob' FROM records WHERE kind = 'paybook.attachment'
            UNION SELECT b.key FROM blobs b JOIN events e ON e.id = b.sealed_for
                WHERE e.provider = 'authenteq' AND e.state = 'done' AND b.key LIKE 'authenteq/%' AND NOT b.let_go
            """
        )
        return {row["blob"] for row in rows}

    async def settle(self) -> None:
        """A day in which every store answers, and nobody delivers."""
        self.faults.begin({})
        self.gone = False
        for number in range(4):
            await self.drain(Move("drain"), self.db)
            await self.half_a_day(Move("half_a_day"), self.db)
            await self.retain(Move("retain", number, this=True), self.db)
            await retention_guard.allow(self.db)

    async def check_nothing_is_left_over(self) -> None:
        """Every object is named, every row of an object leads to one, every fetch is an event's."""
        there = set(objects(self.blobs))
        named = await self.named()
        images = await self.db.fetch(
            """
            SELECT b.key FROM blobs b JOIN events e ON e.id = b.sealed_for
            WHERE b.key LIKE 'authenteq/%' AND NOT b.let_go
            """
        )
        assert set() == there - named - {row["key"] for row in images}, "a blob that nobody names is left"
        lone = await self.db.fetch(
            "SELECT id FROM fetches f WHERE NOT EXISTS (SELECT FROM event_fetches l WHERE l.fetch_id = f.id)"
        )
        assert [] == lone, "a fetch that no event leads to is left"
        links = await self.db.fetch(
            "SELECT fetch_id FROM event_fetches l WHERE NOT EXISTS (SELECT FROM fetches f WHERE f.id = l.fetch_id)"
        )
        assert [] == links, "a link leads to no fetch"
        rows = {row["key"] for row in await self.db.fetch("SELECT key FROM blobs")}
        assert set() == {key for key in rows - there if not key.startswith("authenteq/")}, "a row of no blob is left"


def _ids(keys: set[str]) -> list[UUID]:
    return [UUID(key.rpartition("/")[2]) for key in keys]


async def _connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url, server_settings={"synchronous_commit": "off", "jit": "off"})


@pytest.mark.timeout(0)
def test_whatever_fails_nothing_is_left_over_and_nothing_is_missing(
    database_url: str, empty_redis: Redis, tmp_path: Any
) -> None:
    """No row without its blob at any moment; after a day no blob without a row, and no fetch without an event."""
    file = tmp_path / "penstock.toml"
    file.write_text(RETENTION)
    Blobs.url, Blobs.redis_url, Blobs.configuration = database_url, empty_redis.url, read_configuration(file)
    Blobs.faults_done = 0
    while True:
        run_state_machine_as_test(
            Blobs,
            settings=settings(
                max_examples=200 if WANTED_FAULTS else 10,
                stateful_step_count=3,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            ),
        )
        # with `pytest -s`: how far the long form has come
        sys.stdout.write(f"{Blobs.faults_done:,} faults\n")
        if Blobs.faults_done >= WANTED_FAULTS:
            return
