"""Whatever answers come in whatever order, records and feed are what a few lines of Python make of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.providers.interface import Record
from shared.store.records import loading, recording
from shared.store.records.sighting import Sighting


KEYS = ("a", "b", "c")
# One value in two forms, one of its fields another, a field more, and none at all: a tombstone.
DATA = ('{"x": 1, "y": [2]}', '{"y":[2],"x":1}', '{"x": 1, "y": 3}', '{"x": 1, "y": [2], "z": 0}', None)


@dataclass
class Known:
    """A record as the model holds it."""

    data: Any
    began: int
    deleted: bool


@dataclass
class Model:
    """The rules, one sighting after another."""

    records: dict[str, Known] = field(default_factory=dict)
    feed: list[tuple[str, str, list[str]]] = field(default_factory=list)
    shown_once: set[str] = field(default_factory=set)

    def apply(self, sightings: Sequence[Sighting]) -> None:
        """The newest sighting of each record in the answer counts; of two that began alike the last."""
        newest: dict[str, Sighting] = {}
        for one in sightings:
            name = one.record.external_id
            if name not in newest or one.began >= newest[name].began:
                newest[name] = one
        for name in sorted(newest):
            self._see(newest[name])

    def _see(self, one: Sighting) -> None:
        _, name, text, deleted, once, *_ = one.record
        data = None if text is None else msgspec.json.decode(text)
        known = self.records.get(name)
        if once and name in self.shown_once:
            return
        if once:
            self.shown_once.add(name)
        if known is None:
            self.records[name] = Known(data or {}, one.began, deleted)
            self.feed.append(("deleted" if deleted else "created", name, []))
            return
        if one.began < known.began:
            return
        known.began = one.began
        if once or (data in (None, known.data) and deleted == known.deleted):
            return
        op = "updated" if deleted == known.deleted else "deleted" if deleted else "created"
        new = known.data if data is None else data
        differing = [key for key in {*known.data, *new} if known.data.get(key) != new.get(key)]
        self.feed.append((op, name, sorted(differing)))
        known.data, known.deleted = new, deleted


@st.composite
def sightings(draw: st.DrawFn) -> Sighting:
    """One sighting of one of few records."""
    data = draw(st.sampled_from(DATA))
    deleted = data is None or draw(st.booleans())
    record = Record("thing", draw(st.sampled_from(KEYS)), data, deleted, once=draw(st.integers(0, 9)) == 0)
    return Sighting("imin", "main", record, draw(st.integers(1, 9)), None)


LARGE = st.sampled_from((False, False, False, True))
ANSWERS = st.lists(st.tuples(st.lists(sightings(), max_size=4), LARGE), max_size=8)


def test_records_and_feed_follow_the_rules(database_url: str) -> None:
    """Records, their order numbers and the feed are the model's after any answers, small or large."""
    others = [Sighting("imin", "main", Record("other", f"{n:04}", "{}"), 1, None) for n in range(loading.WORTH_COPYING)]

    async def run(answers: Sequence[tuple[list[Sighting], bool]]) -> tuple[dict[str, Known], list[Any]]:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("DELETE FROM records; DELETE FROM changes; DELETE FROM once_marks")
            for answer, large in answers:
                async with connection.transaction():
                    await recording.apply(connection, [*answer, *others] if large else answer)
            rows = await connection.fetch("SELECT * FROM records WHERE kind = 'thing'")
            feed = await connection.fetch(
                "SELECT op, external_id, changed FROM changes WHERE kind = 'thing' ORDER BY id"
            )
        finally:
            await connection.close()
        known = {
            row["external_id"]: Known(msgspec.json.decode(row["data"]), row["began"], row["deleted_at"] is not None)
            for row in rows
        }
        return known, [tuple(row) for row in feed]

    @settings(max_examples=80, deadline=None)
    @given(ANSWERS)
    def holds(answers: Sequence[tuple[list[Sighting], bool]]) -> None:
        model = Model()
        for answer, _ in answers:
            model.apply(answer)
        records, feed = asyncio.run(run(answers))
        assert model.records == records
        # Within one answer new records come before changed ones or after: the feed promises an order a record.
        assert _by_record(model.feed) == _by_record(feed)

    holds()


def _by_record(feed: Sequence[Any]) -> dict[str, list[Any]]:
    return {name: [entry for entry in feed if entry[1] == name] for name in KEYS}
