"""Whatever goes wrong with one event or one call is that one's verdict: its neighbours end as they would have."""

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from ops.embedded.redis import Redis
from shared import errors
from shared.blobs import BlobMissing
from shared.errors import NotAuthentic, PenstockError, RefusedAnswer, StoreAway, Unreadable
from shared.sealing import BrokenSeal
from shared.store.replaying import replay
from shared.store.selecting import Selection
from support.following import Api, Failing, Store, customer_account, followed, serving, working
from workers.follow_up.reader import BYTES_AT_ONCE, LARGE_AT_ONCE
from workers.process import WorkerProcess


VICTIM = "victim"
NEIGHBOURS = [f"neighbour-{number}" for number in range(5)]


def _raised() -> list[BaseException]:
    """One of each class of ``shared/errors.py``, and what nobody has thought of."""
    made: list[BaseException] = [BlobMissing("m"), BrokenSeal("b"), KeyError("k"), TimeoutError(), OSError("o")]
    made += [asyncpg.DataError("d"), asyncpg.ProgramLimitExceededError("p"), RecursionError("r"), MemoryError()]
    for kind in vars(errors).values():
        if not (inspect.isclass(kind) and issubclass(kind, PenstockError)):
            continue
        match kind:
            case errors.Unreadable:
                made.append(Unreadable("wrong-shape", "u"))
            case errors.RefusedAnswer:
                made.append(RefusedAnswer(503, "r"))
            case errors.NotAuthentic:
                made.append(NotAuthentic("n"))
            case _:
                made.append(kind("e"))
    return made


RAISED = _raised()
WHERE = {
    "the body is read": ("blobs", "read", "authenteq"),
    "an image is kept": ("blobs", "put", "authenteq"),
    "a body is opened": ("keys", "unseal", "imin"),
    "the budget is asked": ("budgets", "take", "imin"),
    "the call is made": ("sessions", "get", "imin"),
}


@pytest.fixture
def api() -> Iterator[Api]:
    """The providers' API."""
    with serving() as server:
        yield server


@pytest.fixture
def process(api: Api, database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process."""
    with working(api, database_url, redis.url, tmp_path) as made:
        yield made


@pytest.fixture
def store(database_url: str, process: WorkerProcess, api: Api) -> Store:
    """What is in Postgres."""
    return Store(database_url, process, api)


@pytest.mark.parametrize("where", WHERE)
def test_whatever_is_raised_about_one_is_its_verdict_and_its_neighbours_end_as_they_would_have(
    where: str, process: WorkerProcess, store: Store, api: Api
) -> None:
    """Each class of error, at each place: the one is parked, failed, put off or waits; replayed, it is done."""
    attribute, method, provider = WHERE[where]
    api.answer = customer_account
    for number, error in enumerate(RAISED):
        names = [f"{name}-{number}" for name in (VICTIM, *NEIGHBOURS)]
        if provider == "imin":
            victim, *neighbours = store.imin(names)
        else:
            api.answer = lambda path: (200, _exported(path))
            victim, *neighbours = store.authenteq(names, large=method == "read")
        failing = Failing(getattr(process, attribute), method, error, [f"{VICTIM}-{number}", str(victim)])
        _put(process, attribute, failing)

        followed(process, provider)

        assert failing.raised, (where, repr(error))
        assert {"done"} == set(store.states(neighbours)), (where, repr(error))
        [row] = store.rows("SELECT state, due_at, claimed_by, error_reason FROM events WHERE id = $1", victim)
        named = row["state"] in {"parked", "failed"} and row["error_reason"]
        assert named or row["state"] in {"waiting", "done"} or row["due_at"], (where, repr(error), dict(row))
        assert row["claimed_by"] is None
        assert 0 == process.run(_held(process))

        _put(process, attribute, failing._real)
        _again(store, [victim])
        followed(process, provider)
        store.make_due()  # a call that was made a moment ago is made again a moment later
        followed(process, provider)
        assert ["done"] == store.states([victim]), (where, repr(error))


def test_a_missing_body_parks_its_event_and_what_is_behind_it_is_done(process: WorkerProcess, store: Store) -> None:
    """Its reason says so; nothing of the queue behind waits for it."""
    [lost] = store.authenteq(["lost"], large=True)
    process.run(process.blobs.delete(f"bodies/{lost}"))
    behind = store.imin([f"customer-{number}" for number in range(100)])
    others = store.authenteq(["other"], large=True)

    followed(process, "authenteq")
    followed(process, "imin")

    assert ["parked body-missing"] == store.states([lost])
    assert {"done"} == set(store.states(behind))
    assert others


def test_an_event_whose_store_is_away_is_put_off_and_small_ones_go_on(process: WorkerProcess, store: Store) -> None:
    """It waits for a stated time, as often as it takes, and is done when the store is back."""
    large = store.authenteq([f"large-{number}" for number in range(20)], large=True)
    small = store.receive("authenteq", [b"not a form"] * 20, kind="text/plain")
    failing = Failing(process.blobs, "read", StoreAway("the blob store does not answer"), ["bodies/"], seconds=0.2)
    _put(process, "blobs", failing)

    for _ in range(3):
        followed(process, "authenteq")
        assert {"received"} == set(store.states(large))
        store.make_due()
    followed(process, "authenteq")

    assert {"parked"} == {state.split()[0] for state in store.states(small)}
    # some try it for all: each time as many as may read at once
    assert failing.raised <= 4 * LARGE_AT_ONCE
    assert any(step == "put-off" and "does not answer" in detail for step, detail in store.timeline(large[0]))
    _put(process, "blobs", failing._real)
    store.make_due()
    followed(process, "authenteq")
    assert not {"received"} & set(store.states(large))


def test_a_record_that_postgres_refuses_is_set_aside_with_its_reason(
    process: WorkerProcess, store: Store, api: Api
) -> None:
    """Its neighbours in the same answer are stored; the event is done and says so."""
    # Longer than a row of an index takes, though short enough in letters.
    unstorable = "".join(chr(0x4E00 + 7 * number % 20_000) for number in range(1900))

    def answer(path: str) -> tuple[int, bytes]:
        name = path.rpartition("/")[2]
        notes = [{"@id": f"{name}-1"}, {"@id": unstorable}, {"@id": f"{name}-2"}]
        return 200, orjson.dumps({"identifier": name, "notifications": notes if name == VICTIM else []})

    api.answer = answer
    events = store.imin([VICTIM, *NEIGHBOURS])

    followed(process, "imin")

    assert ["done row-set-aside"] + ["done"] * len(NEIGHBOURS) == store.states(events)
    found = {row["external_id"] for row in store.rows("SELECT external_id FROM records")}
    assert {VICTIM, f"{VICTIM}-1", f"{VICTIM}-2", *NEIGHBOURS} == found
    [aside] = [detail for step, detail in store.timeline(events[0]) if step == "set-aside"]
    assert "imin.update-notification" in aside
    assert unstorable[:20] not in aside


def _exported(path: str) -> bytes:
    """What Authenteq exports of a result, named in the path."""
    return orjson.dumps({"id": path.rpartition("=")[2], "status": "PASSED"})


def _again(store: Store, events: list[Any]) -> None:
    """Time passes, and what was given up is replayed."""

    async def once_more(db: asyncpg.Connection) -> None:
        async for _ in replay(db, Selection(ids=events), note="mended"):
            continue

    store.run(once_more)
    store.make_due()


async def _held(process: WorkerProcess) -> int:
    return len(process._held)


def _put(process: WorkerProcess, attribute: str, collaborator: Any) -> None:
    setattr(process, attribute, collaborator)


def test_large_deliveries_over_a_slow_store_are_done_as_they_come_in(process: WorkerProcess, store: Store) -> None:
    """Each is planned when it is read, whatever its neighbours wait for; small ones wait for none of them."""
    large = store.receive("authenteq", [b"not a form"] * 40, large=True, kind="text/plain")
    small = store.receive("authenteq", [b"not a form"] * 10, kind="text/plain")
    _put(process, "blobs", Failing(process.blobs, "read", StoreAway(""), [], seconds=0.4))

    followed(process, "authenteq")

    rows = store.rows("SELECT id, finished_at FROM events ORDER BY finished_at, id")
    assert {"parked wrong-shape"} == set(store.states([*large, *small]))
    assert set(small) == {row["id"] for row in rows[: len(small)]}
    # in rounds of as many as are read at once, not all together at the end
    assert len({row["finished_at"] for row in rows}) > len(large) // LARGE_AT_ONCE // 2


def test_a_body_of_any_number_of_bytes_is_read_and_no_more_of_them_than_there_is_memory_for(
    process: WorkerProcess, store: Store
) -> None:
    """Those that are too large together are read one after the other."""
    events = store.receive("authenteq", [b"not a form"] * 3, large=True, kind="text/plain")
    store.execute("UPDATE events SET body_bytes = $1", BYTES_AT_ONCE + 1)
    watched = _Watched(process.blobs)
    _put(process, "blobs", watched)

    followed(process, "authenteq")

    assert {"parked wrong-shape"} == set(store.states(events))
    assert 1 == watched.most


class _Watched:
    """A blob store that counts how many reads are under way."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._now = 0
        self.most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def read(self, *args: Any) -> bytes:
        """Read."""
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.05)
        self._now -= 1
        body: bytes = await self._real.read(*args)
        return body
