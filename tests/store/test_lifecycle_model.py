"""The real store under arbitrary interleavings of everything that can happen to events and fetches.

Each rule is one transaction of one process, so Hypothesis decides in which order those of several workers, the relay,
ingress and operators come; ``test_side_by_side.py`` lets them run into each other. Workers die, stall and come back
late with old tokens; what the provider's API holds changes all the time. After each step everything that Penstock
promises about events, fetches, records and counts is checked; at the end everything still has to finish.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from shared.providers.interface import Call, Outcome, Record
from shared.store import fetching, leases, opening, planning, queueing, releasing, replaying, returning
from shared.store.fairness import Room
from shared.store.fetching import ClaimedFetch, Result
from shared.store.lifecycle import EVENT_STATES
from shared.store.pacing import Pace
from shared.store.planning import ClaimedEvent, Planned
from shared.store.records import numbering
from steps import keep


T = TypeVar("T")

LEASE_SECONDS = 10.0
WORKERS = 3
ACCOUNTS = ("main", "second")
RESOURCES = ("a", "b")
IDENTITIES = (None, None, "i-1", "i-2")
ENDS = ("ok", "ok", "more", "more", "chain", "chain", "gone", "again", "later", "budget", "final")
FINISHED = ("done", "duplicate", "parked", "failed")
TABLES = "events, identities, fetches, event_fetches, records, changes, timeline, tallies, worker_processes"


@dataclass(frozen=True, slots=True)
class Asked:
    """What one delivery asks for, as its provider would read it."""

    account: str
    resources: Sequence[str]
    identity: str | None


@dataclass(slots=True)
class Worker:
    """A worker process, as far as the store sees it; ``name`` stays, ``id`` is new after a death."""

    connection: asyncpg.Connection
    id: UUID
    events: list[ClaimedEvent] = field(default_factory=list)
    fetches: list[ClaimedFetch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that happens; each takes of the rest what it needs."""

    what: str
    of: int = 0
    limit: int = 1
    this: bool = False
    that: bool = False
    number: int = 0
    account: str = "main"
    ends: Sequence[str] = ("ok", "ok", "ok", "ok")


MOVES = st.builds(
    Move,
    what=st.sampled_from(
        (
            *24 * ["work"],
            *5 * ["deliver"],
            *4 * ["change"],
            *3 * ["lapse"],
            *2 * ["come_back_late"],
            *2 * ["time_passes"],
            *("begin_anew", "beat", "lose_a_batch", "stop", "relay", "account", "replay"),
        )
    ),
    of=st.integers(0, WORKERS - 1),
    limit=st.integers(1, 4),
    this=st.booleans(),
    that=st.booleans(),
    number=st.integers(0, 7),
    account=st.sampled_from((*2 * ["main"], "second")),
    ends=st.tuples(*4 * [st.sampled_from(ENDS)]),
)


class Installation(RuleBasedStateMachine):
    """Ingress, three workers, a relay and an operator on one database."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.db = self.do(_connect(self.url))
        self.do(self.db.execute(f"TRUNCATE {TABLES}"))
        self.asked: dict[UUID, Asked] = {}
        self.configured = set(ACCOUNTS)
        self.api: Counter[str] = Counter()
        self.answers: dict[int, int] = {}
        """Token -> the version that the API answered with when the call began."""
        self.late_events: list[ClaimedEvent] = []
        self.late_fetches: list[ClaimedFetch] = []
        self.lone_deaths: Counter[str] = Counter()
        self.seen_records: dict[tuple[str, str], tuple[int, str, bool]] = {}
        self.seen_changes = 0
        self.workers = [Worker(self.do(_connect(self.url)), uuid4()) for _ in range(WORKERS)]
        for worker in self.workers:
            self.do(leases.beat(self.db, worker.id, "worker"))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end."""
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        """Everything finishes once the accounts are back and a worker lives."""
        try:
            self.everything_finishes()
            self.do(self.check())
        finally:
            for connection in (self.db, *(worker.connection for worker in self.workers)):
                self.do(connection.close())
            self.loop.close()

    # ── ingress ───────────────────────────────────────────────────────────────────────────────────────────────────

    def deliver(self, move: Move) -> None:
        """A delivery is kept, perhaps several times over."""
        resources = [name for name, wanted in zip(RESOURCES, (move.this, move.that), strict=True) if wanted]
        self.keep(move.account, resources, IDENTITIES[move.number % len(IDENTITIES)], move.limit)

    def keep(self, account: str, resources: Sequence[str], identity: str | None, count: int) -> None:
        """Keep it, and what it asks for."""
        for event in self.do(keep(self.db, count, account=account)):
            self.asked[event] = Asked(account, resources, identity)

    def change(self, move: Move) -> None:
        """What the provider's API holds is new from now on."""
        self.api[move.account] += 1

    # ── workers ───────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize()
    def something_is_there(self) -> None:
        """A first few deliveries, two of them the same."""
        self.keep("main", ["a", "b"], "i-1", 2)
        self.keep("main", ["a"], None, 1)

    @rule(moves=st.lists(MOVES, min_size=8, max_size=12))
    def happen(self, moves: Sequence[Move]) -> None:
        """What is next. One rule for all: Hypothesis leaves some rules out of each run, and work has to go on."""
        for move in moves:
            getattr(self, move.what)(move)
            self.do(self.check())

    def work(self, move: Move) -> None:
        """A worker finishes some of what it holds, or takes up something else."""
        worker = self.workers[move.of]
        if worker.events:
            self.plan(worker, readable=move.number != 0, start=move.limit if move.that else 0)
        elif worker.fetches:
            self.finish(worker, move.ends[: move.limit])
        elif move.this:
            _ = self.claim_fetches(worker, move.limit, suspects=move.that) or self.claim_events(
                worker, move.limit, suspects=move.that
            )
        else:
            _ = self.claim_events(worker, move.limit, suspects=move.that) or self.claim_fetches(
                worker, move.limit, suspects=move.that
            )

    def claim_events(self, worker: Worker, limit: int, *, suspects: bool) -> int:
        """Take a batch."""
        claim = planning.claim(worker.connection, "imin", Room.of(limit), worker.id, suspects=suspects)
        worker.events = self.do(claim)
        assert not any(event.suspect for event in worker.events) or 1 == len(worker.events)
        return len(worker.events)

    def plan(self, worker: Worker, *, readable: bool, start: int = 0) -> None:
        """The batch is planned; where the account is gone, or nothing can be read, it is parked. Some calls begin."""
        claimed, worker.events = worker.events, []
        plans = [self.planned(event, readable=readable) for event in claimed]
        begin = opening.Start(worker.id, Room.of(start)) if start else None
        worker.fetches = self.do(planning.commit(worker.connection, plans, 0, begin)).started
        assert len(worker.fetches) <= start
        for fetch in worker.fetches:
            self.begin(fetch)

    def claim_fetches(self, worker: Worker, limit: int, *, suspects: bool) -> int:
        """Begin calls; the answer is what the API holds at that moment."""
        claim = fetching.claim(worker.connection, "imin", Room.of(limit), worker.id, suspects=suspects)
        worker.fetches = self.do(claim)
        assert not any(fetch.suspect for fetch in worker.fetches) or 1 == len(worker.fetches)
        for fetch in worker.fetches:
            self.begin(fetch)
        return len(worker.fetches)

    def finish(self, worker: Worker, ends: Sequence[str]) -> None:
        """Some of a worker's calls come in together."""
        batch, worker.fetches = worker.fetches[: len(ends)], worker.fetches[len(ends) :]
        results = [self.result(fetch, end) for fetch, end in zip(batch, ends, strict=False)]
        self.do(fetching.commit(worker.connection, results, 0))

    def begin_anew(self, move: Move) -> None:
        """A call that waited for its budget begins later than its claim."""
        worker = self.workers[move.of]
        begun = [self.do(fetching.begin_anew(worker.connection, fetch)) for fetch in worker.fetches]
        worker.fetches = [fetch for fetch in begun if fetch is not None]
        for fetch in worker.fetches:
            self.begin(fetch)

    def beat(self, move: Move) -> None:
        """A beat renews the lease and gives back what the process does not hold any more."""
        worker = self.workers[move.of]
        self.do(leases.beat(worker.connection, worker.id, "worker"))
        held = [event.id for event in worker.events], [fetch.id for fetch in worker.fetches]
        self.do(leases.give_back(worker.connection, worker.id, *held))

    def lose_a_batch(self, move: Move) -> None:
        """A cancelled batch is dropped; the next beat gives it back. What it made may still come in late."""
        worker = self.workers[move.of]
        self.late_events += worker.events
        self.late_fetches += worker.fetches
        worker.events, worker.fetches = [], []

    def stop(self, move: Move) -> None:
        """A worker that is told to stop gives everything back and is replaced."""
        worker = self.workers[move.of]
        self.do(leases.leave(worker.connection, worker.id))
        self.replace(worker)

    def lapse(self, move: Move) -> None:
        """A worker beats no more for a lease: it died and is replaced, or was only slow and goes on."""
        worker = self.workers[move.of]
        held = self.do(self.held_by(worker.id))
        alone = [row["id"] for row in held if row["suspect"]] if 1 == len(held) else []
        self.do(
            self.db.execute("UPDATE worker_processes SET beat_at = beat_at - interval '1 h' WHERE id = $1", worker.id)
        )
        lapsed = self.do(leases.expire(self.db, LEASE_SECONDS, datetime.now(UTC) + timedelta(hours=1)))
        self.do(leases.give_back_orphans(self.db))
        if lapsed:
            self.lone_deaths.update(alone)
        if not move.this:
            self.replace(worker)

    def come_back_late(self, move: Move) -> None:
        """Somebody who was given up finishes with an old token, and changes nothing unless it still counts."""
        for late, store in ((self.late_fetches, self.store_late_fetch), (self.late_events, self.store_late_event)):
            if late:
                claimed: Any = late.pop(move.number % len(late))
                counts, before = self.do(self.look(claimed))
                store(claimed, move)
                assert counts or before == self.do(self.look(claimed))[1], "a late finisher is refused by its token"

    def store_late_fetch(self, fetch: ClaimedFetch, move: Move) -> None:
        """Its call came in."""
        self.do(fetching.commit(self.db, [self.result(fetch, move.ends[0])], 0))

    def store_late_event(self, event: ClaimedEvent, _: Move) -> None:
        """Its plan is ready."""
        self.do(planning.commit(self.db, [self.planned(event, readable=True)], 0))

    async def look(self, claimed: ClaimedFetch | ClaimedEvent) -> tuple[bool, list[asyncpg.Record]]:
        """Whether a claim still counts, and everything that it could change."""
        held = "SELECT token = $2 FROM fetches WHERE id = $1"
        if isinstance(claimed, ClaimedEvent):
            held = "SELECT token = $2 FROM events WHERE id = $1"
        counts = await self.db.fetchval(held, claimed.id, claimed.token)
        rows = await self.db.fetch(
            """
            SELECT (SELECT json_agg(e ORDER BY id) FROM events e), (SELECT json_agg(f ORDER BY id) FROM fetches f),
                   (SELECT count(*) FROM changes), (SELECT count(*) FROM timeline),
                   (SELECT max(fetched_at) FROM records)
            """
        )
        return bool(counts), rows

    # ── relay, operator ───────────────────────────────────────────────────────────────────────────────────────────

    def relay(self, _: Move) -> None:
        """The relay queues what is due, numbers the changes and folds the counts."""

        async def tick() -> None:
            async with self.db.transaction():
                await queueing.due_events(self.db, ["imin"], 10)
                await queueing.due_fetches(self.db, ["imin"], 10)
            await numbering.number_changes(self.db)
            await queueing.fold_tallies(self.db)

        self.do(tick())

    def time_passes(self, _: Move) -> None:
        """Whatever waits for a time is due."""
        self.do(
            self.db.execute("UPDATE fetches SET due_at = due_at - interval '2 h', queue_at = queue_at - interval '2 h'")
        )

    def account(self, move: Move) -> None:
        """An account goes or returns; its events are parked meanwhile and go on later."""
        self.configured ^= {move.account}
        self.do(returning.go_on(self.db, [("imin", name) for name in sorted(self.configured)]))

    def replay(self, move: Move) -> None:
        """An operator replays the newest few, or everything in one state."""
        state = EVENT_STATES[move.number % len(EVENT_STATES)] if move.this else None
        ids = () if state else list(self.asked)[-move.limit :]
        for replayed in self.do(self.replayed(replaying.Selection(ids=ids, state=state))):
            if replayed.outcome in replaying.DONE:
                self.lone_deaths.pop(str(replayed.id), None)

    # ── what the rules share ──────────────────────────────────────────────────────────────────────────────────────

    async def replayed(self, selection: replaying.Selection) -> list[replaying.Replay]:
        """What became of each."""
        if not self.asked:
            return []
        batches = replaying.replay(self.db, selection, note="because", pace=Pace(500, 0))
        return [each async for batch in batches for each in batch]

    async def held_by(self, worker: UUID) -> list[asyncpg.Record]:
        """What a process has claimed."""
        return await self.db.fetch(
            """
            SELECT id::text, suspect FROM events WHERE claimed_by = $1
            UNION ALL SELECT id::text, suspect FROM fetches WHERE claimed_by = $1
            """,
            worker,
        )

    def replace(self, worker: Worker) -> None:
        """A new process in the place of one that is gone, whose work may still come in late."""
        self.late_events += worker.events
        self.late_fetches += worker.fetches
        worker.events, worker.fetches, worker.id = [], [], uuid4()
        self.do(leases.beat(self.db, worker.id, "worker"))

    def planned(self, event: ClaimedEvent, *, readable: bool) -> Planned:
        """What reading the event leads to."""
        asked = self.asked[event.id]
        if asked.account not in self.configured:
            return Planned(event, parked=("account-removed", "gone"))
        if not readable:
            return Planned(event, parked=("wrong-shape", "not what it should be"))
        calls = [Call(f"/{resource}", "x", missing="tombstone") for resource in asked.resources]
        once = Record("once", asked.identity or str(event.id), "{}", once=True)
        return Planned(event, types=("x",), identity=asked.identity, calls=calls, records=[once])

    def begin(self, fetch: ClaimedFetch) -> None:
        """The API answers."""
        self.answers[fetch.token] = self.api[fetch.account]

    def result(self, fetch: ClaimedFetch, end: str) -> Result:
        """How a call ended."""
        resource = fetch.call.path[1]
        version = fetch.call.context.get("version", self.answers[fetch.token])
        data = f'{{"version": {version}}}'
        if fetch.account not in self.configured:
            return Result(fetch, "failed", reason="account-removed", detail="gone", counted=False, called=False)
        match end:
            case "gone":
                return Result(fetch, "done", Outcome(records=[Record("thing", resource, None, deleted=True)]), 404)
            case "again" | "later":
                wait = 3600 if end == "later" else 0
                return Result(fetch, "waiting", status=500, reason="refused", detail="500", wait_seconds=wait)
            case "budget":
                return Result(fetch, "waiting", reason="budget", wait_seconds=0, counted=False, called=False)
            case "final":
                return Result(fetch, "failed", status=410, reason="refused", detail="410")
        more: tuple[Call, ...] = ()
        if fetch.call.page == 1 and end == "more":
            more = (Call(f"/{resource}/2", "x", page=2),)
        if fetch.call.page == 1 and end == "chain":
            more = (Call(f"/{resource}/rest", "x", page=2, context={"version": version}, completes=True),)
        # every call sees the account's thing, so that calls of two resources race for it
        things = [Record("thing", name, data) for name in (resource, "of the account")]
        records = [*things, Record("once", f"note-{resource}", data, once=True)]
        return Result(fetch, "done", Outcome(records=records, next=more), 200)

    # ── promises ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def check(self) -> None:
        """Read everything and compare."""
        events = {row["id"]: row for row in await self.db.fetch("SELECT * FROM events")}
        fetches = {row["id"]: row for row in await self.db.fetch("SELECT * FROM fetches")}
        of_event: dict[UUID, list[asyncpg.Record]] = {event: [] for event in events}
        of_fetch: Counter[int] = Counter()
        for row in await self.db.fetch("SELECT event_id, fetch_id FROM event_fetches"):
            of_event[row["event_id"]].append(fetches[row["fetch_id"]])
            of_fetch[row["fetch_id"]] += 1
        living = {row["id"] for row in await self.db.fetch("SELECT id FROM worker_processes")}
        # A process that was given up while it was only slow may claim before its next beat; that is ended, too.
        living |= {worker.id for worker in self.workers}

        assert set(self.asked) == set(events), "everything acknowledged is there"
        for event, row in events.items():
            self.check_event(row, of_event[event], living)
        self.check_identities(events)
        self.check_fetches(list(fetches.values()), of_fetch, living)
        await self.check_records()
        await self.check_counts(events, fetches)

    def check_event(self, event: asyncpg.Record, calls: list[asyncpg.Record], living: set[UUID]) -> None:
        """It has an owner, and its state is what its fetches say."""
        state = event["state"]
        assert (state in FINISHED) == (event["finished_at"] is not None)
        assert (event["claimed_by"] is None) == (event["token"] is None)
        assert state == "received" or event["claimed_by"] is None
        assert event["claimed_by"] is None or event["claimed_by"] in living
        open_calls = [call for call in calls if call["state"] in {"pending", "waiting", "running"}]
        assert bool(open_calls) == (state in {"processing", "waiting"}), "whoever waits for a call is not finished"
        if calls and state != "received":
            assert judged(calls) == state
        if event["error_reason"] == "poison":
            deaths = [self.lone_deaths[str(event["id"])], *(self.lone_deaths[str(call["id"])] for call in calls)]
            assert releasing.LONE_DEATHS <= max(deaths), "only deaths while alone count"

    def check_identities(self, events: dict[UUID, asyncpg.Record]) -> None:
        """Of each identity one event takes effect; the others point to one of the same."""
        effective: Counter[tuple[str, str]] = Counter()
        for event, row in events.items():
            asked = self.asked[event]
            if row["state"] == "duplicate":
                assert asked.identity is not None
                assert asked.identity == self.asked[row["duplicate_of"]].identity
                assert asked.account == self.asked[row["duplicate_of"]].account
            elif asked.identity and row["state"] in {"processing", "waiting", "done"}:
                effective[asked.account, asked.identity] += 1
        assert not [key for key, count in effective.items() if count > 1], "an effect is applied once"

    def check_fetches(self, fetches: list[asyncpg.Record], of_fetch: Counter[int], living: set[UUID]) -> None:
        """One runs and one is open of a resource, at most; each is wanted, and held by whom lives."""
        running = Counter(bytes(row["resource"]) for row in fetches if row["state"] == "running")
        waiting = Counter(bytes(row["resource"]) for row in fetches if row["state"] in {"pending", "waiting"})
        assert not [key for key, count in (*running.items(), *waiting.items()) if count > 1]
        for row in fetches:
            assert (row["state"] == "running") == (row["claimed_by"] is not None) == (row["token"] is not None)
            assert row["claimed_by"] is None or row["claimed_by"] in living
            assert (row["state"] in {"done", "failed"}) == (row["finished_at"] is not None)
            assert of_fetch[row["id"]] or row["state"] in {"done", "failed"}, "nobody asks for this call any more"
            assert row["attempts"] >= 0

    async def check_records(self) -> None:
        """None goes back in time; what changed made exactly one entry in the feed, what did not made none."""
        rows = await self.db.fetch("SELECT account, kind, external_id, data::text, began, deleted_at FROM records")
        now = {
            (f"{row['account']}/{row['kind']}", row["external_id"]): (
                row["began"],
                row["data"],
                row["deleted_at"] is not None,
            )
            for row in rows
        }
        changed = 0
        for key, before in self.seen_records.items():
            after = now[key]
            assert before[0] <= after[0], "began never falls"
            assert version_of(before[1]) <= version_of(after[1]), "data is that of the newest call"
            changed += before[1:] != after[1:]
            if key[0].endswith("/once"):
                assert before == after
        changed += len(now) - len(self.seen_records)
        changes = await self.db.fetchval("SELECT count(*) FROM changes")
        assert changed == changes - self.seen_changes, "an effect is applied once"
        self.seen_records, self.seen_changes = now, changes

    async def check_counts(self, events: dict[UUID, asyncpg.Record], fetches: dict[int, asyncpg.Record]) -> None:
        """The tallies say what counting the rows says."""
        rows = await self.db.fetch("SELECT what, state, sum(delta)::int AS n FROM tallies GROUP BY 1, 2")
        tallied = {(row["what"], row["state"]): row["n"] for row in rows if row["n"] and row["what"] != "calls"}
        counted = Counter(("event", row["state"]) for row in events.values())
        counted.update(("fetch", row["state"]) for row in fetches.values())
        assert dict(counted) == tallied

    def everything_finishes(self) -> None:
        """With all accounts back, one living worker and time, nothing is left over; what was given up can be had."""
        self.configured = set(ACCOUNTS)
        for of in range(WORKERS):
            self.lapse(Move("lapse", of=of))
        self.do(returning.go_on(self.db, [("imin", name) for name in ACCOUNTS]))
        assert self.states_after_all_work() <= set(FINISHED)
        for state in ("failed", "parked"):
            self.do(self.replayed(replaying.Selection(state=state)))
        assert self.states_after_all_work() <= {"done", "duplicate"}, "a replay begins anew"

    def states_after_all_work(self) -> set[str]:
        """The first worker works until nothing is left, and all goes well."""
        worker = self.workers[0]
        for _ in range(200):
            self.time_passes(Move("time_passes"))
            planned = self.claim_events(worker, 4, suspects=True)
            self.plan(worker, readable=True)
            fetched = self.claim_fetches(worker, 4, suspects=True)
            self.finish(worker, ["ok"] * 4)
            if not planned and not fetched:
                break
        return {row["state"] for row in self.do(self.db.fetch("SELECT DISTINCT state FROM events"))}


def judged(calls: list[asyncpg.Record]) -> str:
    """The state of an event by the states of its fetches, in the words of the contract."""
    states = {call["state"] for call in calls}
    if "waiting" in states:
        return "waiting"
    if states & {"pending", "running"}:
        return "processing"
    if {call["error_reason"] for call in calls} & {"account-removed", "poison"}:
        return "parked"
    return "failed" if "failed" in states else "done"


def version_of(data: str) -> int:
    """Which version of the thing this is."""
    digits = "".join(character for character in data if character.isdecimal())
    return int(digits or 0)


async def _connect(url: str) -> asyncpg.Connection:
    settings = {"synchronous_commit": "off", "jit": "off"}
    return await asyncpg.connect(url, server_settings=settings)


@pytest.mark.timeout(280)
def test_whatever_happens_in_whatever_order(database_url: str) -> None:
    """Nothing acknowledged is without an owner, no effect is applied twice, no record goes back in time."""
    Installation.url = database_url
    run_state_machine_as_test(
        Installation,
        settings=settings(
            max_examples=60,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
