"""Order, as a property: however updates, slow answers and lost workers interleave, what is stored never gets older."""

import random
from datetime import UTC, datetime

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.lab.magicline_world import MagiclineWorld
from shared.providers.interface import Answer, Call
from shared.providers.magicline import PROVIDER
from shared.providers.magicline.settings import MagiclineAccount
from shared.store import fetching, leases, planning
from shared.store.fairness import Room
from shared.store.fetching import ClaimedFetch, Result
from shared.store.planning import Planned
from steps import keep, worker


pytestmark = pytest.mark.anyio

CUSTOMERS = 250
TICKS = 12
STUDIO = "studio-berlin"
ACCOUNT = MagiclineAccount.model_validate(
    {"name": STUDIO, "base_url": "https://acme.open-api.magicline.com", "webhook_keys": ["hook"], "api_key": "api"}
)


class Interleaving:
    """One studio of the lab; the updates, calls and answers of each of its customers interleave in their own way.

    An answer shows what the studio held at some moment between the call's begin and its end.
    """

    def __init__(self, db: asyncpg.Connection, chance: random.Random) -> None:
        self.db = db
        self.chance = chance
        self.world = MagiclineWorld(STUDIO, 7, datetime(2026, 5, 1, tzinfo=UTC))
        self.first = 10_000 + chance.randrange(1_000_000)
        self.revisions = dict.fromkeys(range(self.first, self.first + CUSTOMERS), 0)
        self.seen: dict[str, int] = {}
        self.under_way: list[ClaimedFetch] = []
        self.answered: list[tuple[ClaimedFetch, bytes]] = []

    async def update(self, share: float) -> None:
        """Some customers change, and the studio says so."""
        changed = self.some([*self.revisions], share)
        for customer in changed:
            self.revisions[customer] += 1
            self.world.put("customer", customer, {"revision": self.revisions[customer]})
        await keep(self.db, len(changed), provider="magicline", account=STUDIO)
        claimed = await planning.claim(self.db, "magicline", Room.of(len(changed)), await worker(self.db))
        await planning.commit(
            self.db,
            [
                Planned(event, ("CUSTOMER_UPDATED",), calls=[Call(f"/v1/customers/{customer}", "customer")])
                for event, customer in zip(claimed, changed, strict=True)
            ],
            0.0,
        )

    async def begin(self, process: object, share: float) -> None:
        """Some of the calls that are due begin."""
        most = max(1, int(share * CUSTOMERS))
        self.under_way += await fetching.claim(self.db, "magicline", Room.of(most), process)  # type: ignore[arg-type]

    def answer(self, share: float) -> None:
        """Some answers are on their way."""
        for fetch in self.some(self.under_way, share):
            self.under_way.remove(fetch)
            customer = fetch.call.path.rpartition("/")[2]
            self.answered.append((fetch, self.world.thing("customer", customer) or b""))

    async def arrive(self, share: float) -> None:
        """Some answers arrive, in any order; what is stored is looked at after each batch."""
        arrived = self.some(self.answered, share)
        self.chance.shuffle(arrived)
        self.answered = [each for each in self.answered if each not in arrived]
        results = [
            Result(
                fetch,
                "done",
                PROVIDER.follow_up.interpret(
                    fetch.call, Answer(200, {"content-type": "application/json"}, body), ACCOUNT
                ),
                200,
            )
            for fetch, body in arrived
        ]
        await fetching.commit(self.db, results, 0.0)
        for row in await self.db.fetch("SELECT external_id, data->>'revision' AS revision FROM records"):
            found = int(row["revision"])
            assert found >= self.seen.get(row["external_id"], 0), f"customer {row['external_id']} went back"
            self.seen[row["external_id"]] = found

    def some(self, things: list, share: float) -> list:  # type: ignore[type-arg]
        """About such a share of them."""
        return [thing for thing in things if self.chance.random() < share]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_1000_interleavings_end_with_the_last_state_and_never_go_back(database_url: str, seed: int) -> None:
    """Four times 250 customers: updated at any moment, answered late and out of order, their workers given up."""
    db = await asyncpg.connect(database_url)
    try:
        await db.execute("TRUNCATE events, fetches, event_fetches, records, changes, timeline")
        play = Interleaving(db, random.Random(seed))  # noqa: S311 - repeatable on purpose
        process = await worker(db)
        for _ in range(TICKS):
            await play.update(0.3)
            await play.begin(process, play.chance.random() / 2)
            play.answer(0.5)
            await play.arrive(0.5)
            if play.chance.random() < 0.2:  # the worker is given up; what it asked for may still arrive
                await leases.leave(db, process)
                process = await worker(db)
        while await db.fetchval("SELECT EXISTS (SELECT FROM fetches WHERE state IN ('pending', 'waiting', 'running'))"):
            await play.begin(process, 1)
            play.answer(1)
            await play.arrive(1)

        stored = {
            int(row["external_id"]): msgspec.json.decode(row["data"])["revision"]
            for row in await db.fetch("SELECT external_id, data FROM records")
        }
        history = await db.fetch("SELECT external_id, count(*) AS times FROM changes GROUP BY external_id")
        updated = {customer: revision for customer, revision in play.revisions.items() if revision}
        assert updated == stored
        assert all(row["times"] <= updated[int(row["external_id"])] for row in history)
        assert {"done"} == {row["state"] for row in await db.fetch("SELECT DISTINCT state FROM events")}
    finally:
        await db.close()
