"""An old delivery that is replayed changes no record that a newer answer has changed since, whoever its provider is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from ops.embedded.redis import Redis
from shared.store.replaying import replay
from shared.store.selecting import Selection
from support.following import Api, Store, followed, serving, working
from workers.process import WorkerProcess


NAME = "1001"


@pytest.fixture
def api() -> Iterator[Api]:
    """The providers' API."""
    with serving() as server:
        yield server


@pytest.fixture
def process(api: Api, database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, which makes a call again at once."""
    with working(api, database_url, redis.url, tmp_path, more="[following_up]\ncoalesce_seconds = 0") as made:
        yield made


@pytest.fixture
def store(database_url: str, process: WorkerProcess, api: Api) -> Store:
    """What is in Postgres."""
    return Store(database_url, process, api)


def test_authenteq_a_revoked_verification_stays_revoked(process: WorkerProcess, store: Store, api: Api) -> None:
    """The old body said PASSED; with ``confirm`` it is even looked at again, and still says what it said then."""
    exported = {"id": NAME, "status": "PASSED"}
    api.answer = lambda _: (200, orjson.dumps(exported))
    [old] = store.authenteq([NAME])
    followed(process, "authenteq")
    passed = _record(store)["status"]
    exported["status"] = "REVOKED"
    newer = store.authenteq([NAME], status="REVOKED")
    store.execute("DELETE FROM identities")  # as a delivery of its own, not as a duplicate
    followed(process, "authenteq")
    revoked = _record(store)["status"]
    assert passed != revoked  # digests, both: it is private
    changes = store.rows("SELECT count(*) FROM changes")
    store.execute("DELETE FROM identities")

    _replay(store, [old])
    followed(process, "authenteq")

    assert ["done", "done"] == store.states([old, *newer])
    assert revoked == _record(store)["status"]
    assert changes == store.rows("SELECT count(*) FROM changes")


def test_magicline_what_was_deleted_and_is_there_again_stays(process: WorkerProcess, store: Store, api: Api) -> None:
    """The old body said that the customer is gone; a newer answer shows it."""
    api.answer = lambda _: (200, orjson.dumps({"id": int(NAME)}))
    [old] = store.receive("magicline", [_magicline("CUSTOMER_DELETED", 1)])
    followed(process, "magicline")
    assert [True] == [row["gone"] for row in store.rows("SELECT deleted_at IS NOT NULL AS gone FROM records")]
    store.receive("magicline", [_magicline("CUSTOMER_UPDATED", 2)])
    followed(process, "magicline")
    assert [False] == [row["gone"] for row in store.rows("SELECT deleted_at IS NOT NULL AS gone FROM records")]

    _replay(store, [old])
    followed(process, "magicline")

    assert [False] == [row["gone"] for row in store.rows("SELECT deleted_at IS NOT NULL AS gone FROM records")]


def test_magicline_a_deletion_that_is_planned_late_deletes_nothing_that_was_seen_since(
    process: WorkerProcess, store: Store, api: Api
) -> None:
    """It waited for hours; meanwhile an answer has shown the customer."""
    api.answer = lambda _: (200, orjson.dumps({"id": int(NAME)}))
    [old] = store.receive("magicline", [_magicline("CUSTOMER_DELETED", 1)])
    store.execute("UPDATE events SET due_at = now() + interval '1 hour'")
    store.receive("magicline", [_magicline("CUSTOMER_UPDATED", 2)])
    followed(process, "magicline")

    store.execute("UPDATE events SET due_at = NULL")
    followed(process, "magicline")

    assert ["done"] == store.states([old])
    assert [False] == [row["gone"] for row in store.rows("SELECT deleted_at IS NOT NULL AS gone FROM records")]


def test_imin_a_replay_shows_what_is_so_now(process: WorkerProcess, store: Store, api: Api) -> None:
    """The body says nothing of the customer but the id: the record is what the API says."""
    shown = {"identifier": NAME, "name": "old"}
    api.answer = lambda _: (200, orjson.dumps(shown))
    [old] = store.imin([NAME])
    followed(process, "imin")
    shown["name"] = "new"
    store.imin([NAME])
    followed(process, "imin")

    _replay(store, [old])
    followed(process, "imin")

    assert "new" == _record(store)["name"]


def test_paybook_a_replay_shows_what_is_so_now(process: WorkerProcess, store: Store, api: Api) -> None:
    """The body names pages: their rows are what the API says."""
    row = {"id_transaction": NAME, "amount": 1}
    envelope: dict[str, Any] = {"rid": "r", "code": 200, "errors": None, "status": True, "message": None}
    api.answer = lambda _: (200, orjson.dumps({**envelope, "response": [row]}))
    page = "/v1/transactions?id_credential=5e793889ea4c5165d46f9811&limit=5000&skip=0&wbhk=1"
    body = {
        "endpoints": {"transactions": [page]},
        "event": "refresh",
        "id_credential": "5e793889ea4c5165d46f9811",
        "id_user": "5e751d54d0510472295413b3",
        "id_job": "1",
    }
    [old] = store.receive("paybook", [orjson.dumps(body)])
    followed(process, "paybook")
    row["amount"] = 2
    store.receive("paybook", [orjson.dumps({**body, "id_job": "2"})])
    followed(process, "paybook")
    assert 2 == _record(store)["amount"]

    _replay(store, [old])
    followed(process, "paybook")

    assert 2 == _record(store)["amount"]


def _magicline(event_type: str, at: int) -> bytes:
    uuid = f"5cf21e3b-e9b8-57cc-b986-{at:012}"
    payload = [{"timestamp": 1770156000000 + at, "type": event_type}]
    return orjson.dumps({"entityId": int(NAME), "uuid": uuid, "payload": payload})


def _record(store: Store) -> dict[str, Any]:
    [row] = store.rows("SELECT data FROM records")
    data: dict[str, Any] = orjson.loads(row["data"])
    return data


def _replay(store: Store, events: list[UUID]) -> None:
    async def again(db: asyncpg.Connection) -> None:
        async for _ in replay(db, Selection(ids=events), note="again"):
            continue

    store.run(again)
