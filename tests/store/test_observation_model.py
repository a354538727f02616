"""Planned late, replayed or answered late: a record is as the newest observation of it showed it, always."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.providers.interface import Record
from shared.store import planning
from shared.store.fairness import Room
from shared.store.planning import Planned
from shared.store.records import recording
from shared.store.records.sighting import Sighting
from shared.store.replaying import replay
from shared.store.selecting import Selection
from steps import keep, worker


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(("happen", "deliver", "plan", "call", "answer", "replay", "put off")), st.integers(0, 9)),
    max_size=25,
)


class Interleaving:
    """One thing at a provider: its version rises; deliveries carry it, calls see it."""

    def __init__(self, db: asyncpg.Connection, process: UUID) -> None:
        self._db = db
        self._process = process
        self._version = 0
        self._carried: dict[UUID, int] = {}
        self._planned: list[UUID] = []
        self._calls: list[tuple[int, int]] = []
        self._newest = -1

    async def take(self, step: Step) -> None:
        """One step; ``which`` chooses among what there is."""
        name, which = step
        match name:
            case "happen":
                self._version += 1
            case "deliver":
                [event] = await keep(self._db)
                self._carried[event] = self._version
            case "plan" | "put off":
                await self._plan(put_off=name == "put off")
            case "call":
                self._calls.append((await self._db.fetchval("SELECT nextval('claims')"), self._version))
            case "answer" if self._calls:
                began, version = self._calls.pop(which % len(self._calls))
                async with self._db.transaction():
                    await recording.apply(self._db, [Sighting("imin", "main", _record(version), began, None)])
                self._newest = max(self._newest, version)
            case "replay" if self._planned:
                chosen = Selection(ids=[self._planned[which % len(self._planned)]])
                async for _ in replay(self._db, chosen, note="again"):
                    continue

    async def stored(self) -> int:
        """The version of the record, -1 where there is none."""
        found = await self._db.fetchval("SELECT data ->> 'version' FROM records")
        return -1 if found is None else int(found)

    @property
    def newest(self) -> int:
        """The newest version that anything stored has shown."""
        return self._newest

    async def _plan(self, *, put_off: bool) -> None:
        await self._db.execute("UPDATE events SET due_at = NULL WHERE state = 'received'")
        claimed = await planning.claim(self._db, "imin", Room.of(2), self._process)
        later = planning.PutOff(0.0, "its store is away")
        plans = [
            Planned(event, put_off=later) if put_off else Planned(event, records=[_record(self._carried[event.id])])
            for event in claimed
        ]
        await planning.commit(self._db, plans, 0.0)
        if not put_off:
            self._planned += [event.id for event in claimed if event.id not in self._planned]
            self._newest = max([self._newest, *(self._carried[event.id] for event in claimed)])


def _record(version: int) -> Record:
    return Record("thing", "a", msgspec.json.encode({"version": version}).decode())


def test_a_record_never_becomes_older_than_what_was_observed_of_it(database_url: str) -> None:
    """Deliveries count as of their receipt, calls as of their begin, whenever and however often they are processed."""

    async def run(steps: Sequence[Step]) -> list[tuple[Any, int, int]]:
        db = await asyncpg.connect(database_url)
        try:
            await db.execute("TRUNCATE events, records, changes, fetches, event_fetches, identities, timeline")
            one = Interleaving(db, await worker(db))
            seen = []
            for step in steps:
                await one.take(step)
                seen.append((step, one.newest, await one.stored()))
            return seen
        finally:
            await db.close()

    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def holds(steps: Sequence[Step]) -> None:
        for step, newest, stored in asyncio.run(run(steps)):
            assert newest == stored, step

    holds()
