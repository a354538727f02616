"""An API that refuses one thing: that call ends, with its own reason; its neighbours and the account go on."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
import uuid_utils.compat as uuid7s

from ops.embedded.redis import Redis
from shared.budgets import Budgets
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.inbox import NewEvent, insert
from shared.watching import ConfigurationWatch
from workers.follow_up.flow import follow_up
from workers.process import WorkerProcess


Reply = tuple[int, bytes]

CONFIG = """
[following_up]
probe_seconds = 1

[retry]
base_seconds = 0.01
max_seconds = 0.2
max_attempts = 20

[[imin.accounts]]
name = "main"
webhook_keys = ["imin-webhook-key"]
api_key = "imin-api-key"
base_url = "http://127.0.0.1:{port}"

[[magicline.accounts]]
name = "main"
webhook_keys = ["magicline-webhook-key"]
api_key = "magicline-api-key"
base_url = "http://127.0.0.1:{port}"

[[paybook.accounts]]
name = "main"
webhook_tokens = ["0123456789abcdef"]
api_key = "paybook-api-key"
base_url = "http://127.0.0.1:{port}"
budget = {{ calls = 0 }}

[[authenteq.accounts]]
name = "main"
client_id = "client-1"
client_secrets = ["client-secret"]
base_url = "http://127.0.0.1:{port}"
confirm = true
"""


class Api(ThreadingHTTPServer):
    """Every provider's side: each path is answered as the test says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[str, Mapping[str, str]], Reply | None] = lambda _path, _headers: None
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """One call."""

    server: Api

    def do_GET(self) -> None:
        """The answer that the test wants; None: the connection is cut."""
        self.server.asked.append(self.path)
        reply = self.server.reply(self.path, self.headers)
        if reply is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(reply[0])
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply[1])))
        self.end_headers()
        self.wfile.write(reply[1])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    """The API on a free port."""
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def process(api: Api, database_url: str, redis: Redis, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A started worker process, in this one."""
    config = tmp_path / "penstock.toml"
    config.write_text(CONFIG.format(port=api.server_port))
    settings = Settings.read(
        {
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis.url,
            "PENSTOCK_DATA_DIR": str(tmp_path),
            "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        }
    )
    made = WorkerProcess(settings, ConfigurationWatch(config), "worker")
    made.start()
    yield made
    made.stop()


def magicline(event_type: str, entity: int, **content: int) -> bytes:
    """A delivery of Magicline."""
    payload: dict[str, Any] = {"timestamp": 1_760_000_000_000, "type": event_type}
    return orjson.dumps(
        {
            "entityId": entity,
            "uuid": str(uuid7s.uuid7()),
            "payload": [payload | ({"content": content} if content else {})],
        }
    )


def paybook(user: str) -> bytes:
    """A delivery of Paybook about one user's accounts."""
    return orjson.dumps(
        {"event": "refresh", "id_user": user, "endpoints": {"accounts": [f"/v1/accounts?id_user={user}"]}}
    )


def imin(customer: str, port: int) -> bytes:
    """A delivery of imin."""
    return orjson.dumps({"@id": f"http://127.0.0.1:{port}/api/v2/customer-accounts/{customer}", "identifier": customer})


class Bench:
    """Deliveries in, and what became of them."""

    def __init__(self, process: WorkerProcess, database_url: str) -> None:
        self._process = process
        self._database_url = database_url

    def follow(self, provider: str, *bodies: bytes) -> list[dict[str, Any]]:
        """Receive deliveries and follow them up to their end: the events and their fetches, in order."""
        events = asyncio.run(self.receive(provider, bodies))
        return self.end(provider, events)

    def end(self, provider: str, events: Sequence[UUID]) -> list[dict[str, Any]]:
        """Follow up whatever is due until these have ended."""
        for _ in range(2000):
            self._process.run(follow_up(self._process, provider))
            rows = asyncio.run(self.rows(events))
            if all(row["state"] in {"done", "failed", "parked"} for row in rows):
                return rows
        pytest.fail(f"they do not end: {rows}")

    async def rows(self, events: Sequence[UUID]) -> list[dict[str, Any]]:
        """The events, each with the newest of its fetches."""
        return await self._ask(
            """
            SELECT e.id, e.state, e.error_reason AS reason, e.error_detail AS detail, f.attempts, f.refusals, f.status
            FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, place) JOIN events e USING (id)
            LEFT JOIN event_fetches l ON l.event_id = e.id LEFT JOIN fetches f ON f.id = l.fetch_id ORDER BY place
            """,
            events,
        )

    def count(self, table: str) -> int:
        """How many rows there are."""
        (row,) = asyncio.run(self._ask(f"SELECT count(*) AS n FROM {table}"))  # noqa: S608 - a name of this test
        return int(row["n"])

    async def _ask(self, query: str, *values: object) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self._database_url)
        try:
            return [dict(row) for row in await connection.fetch(query, *values)]
        finally:
            await connection.close()

    def circuit(self, provider: str) -> str:
        """The state of the account's circuit."""

        async def ask() -> str:
            redis_url = self._process.settings.redis_url
            assert redis_url
            budgets = Budgets(redis_url.get_secret_value())
            try:
                account = self._process.watch.current.accounts[provider]["main"]
                return (await budgets.state(provider, account)).circuit
            finally:
                await budgets.close()

        return asyncio.run(ask())

    async def receive(self, provider: str, bodies: Sequence[bytes]) -> list[UUID]:
        """Keep deliveries as ingress does."""
        made = []
        for body in bodies:
            event = UUID(str(uuid7s.uuid7()))
            made.append(
                NewEvent(
                    id=event,
                    provider=provider,
                    account="main",
                    received_at=datetime.now(UTC),
                    durability="postgres",
                    content_type="application/json",
                    headers=[],
                    body=self._process.keys.seal(body, event),
                    blob=None,
                    body_bytes=len(body),
                    body_sha256=bytes(32),
                )
            )
        connection = await asyncpg.connect(self._database_url)
        await insert(connection, made)
        await connection.close()
        return [event.id for event in made]


@pytest.fixture
def bench(process: WorkerProcess, database_url: str) -> Bench:
    """Deliveries in, and what became of them."""
    return Bench(process, database_url)


def test_403_about_one_endpoint_ends_as_a_missing_scope(bench: Bench, api: Api) -> None:
    """However many in a row: the circuit stays closed, other endpoints go on, and the key is not blamed."""
    said = b'{"errorMessage": "The customer\'s data may no longer be requested"}'
    api.reply = lambda path, _: (403, said) if "checkins" in path else (200, b'{"id": 7}')
    checkins = [magicline("CUSTOMER_CHECKIN", customer) for customer in range(1, 9)]

    rows = bench.follow("magicline", *checkins, magicline("CUSTOMER_UPDATED", 7))

    assert [("failed", "missing-scope", 5)] * 8 + [("done", None, 1)] == [
        (row["state"], row["reason"], row["attempts"]) for row in rows
    ]
    assert rows[0]["detail"].startswith(
        "GET /v1/customers/{customerId}/activities/checkins needs the scope CHECKIN_READ"
    )
    assert "The customer's data may no longer be requested" in rows[0]["detail"]
    assert "check the API key" not in rows[0]["detail"]
    assert "closed" == bench.circuit("magicline")


def test_a_missing_scope_that_was_given_goes_on_when_it_is_replayed(bench: Bench, api: Api) -> None:
    """Nothing was lost by its end."""
    api.reply = lambda _path, _headers: (403, b"")
    (row,) = bench.follow("magicline", magicline("EMPLOYEE_UPDATED", 7))
    assert "missing-scope" == row["reason"]
    api.reply = lambda _path, _headers: (200, b'{"id": 7}')
    (again,) = bench.follow("magicline", magicline("EMPLOYEE_UPDATED", 7))
    assert "done" == again["state"]


@pytest.mark.parametrize("envelope", [True, False])
def test_401_about_one_user_ends_as_user_gone(bench: Bench, api: Api, *, envelope: bool) -> None:
    """As a status or inside the envelope: the other users under that key go on, before it and behind it."""
    gone = b'{"rid": "r", "code": 401, "errors": null, "status": false, "message": "Invalid user", "response": null}'
    good = (
        b'{"rid": "r", "code": 200, "errors": null, "status": true, "message": null, "response": [{"id_account": "a"}]}'
    )
    api.reply = lambda path, _: (200 if envelope else 401, gone) if "gone" in path else (200, good)

    rows = bench.follow("paybook", paybook("one"), paybook("gone"), paybook("two"))

    assert [("done", None), ("failed", "user-gone"), ("done", None)] == [(row["state"], row["reason"]) for row in rows]
    assert "Invalid user" in rows[1]["detail"]
    assert "closed" == bench.circuit("paybook")


@pytest.mark.parametrize(
    ("provider", "status", "body"),
    [
        ("paybook", 401, b'{"code": 401, "status": false, "message": "Unauthorized"}'),
        ("paybook", 402, b'{"code": 402, "status": false, "message": "Payment required"}'),
        ("magicline", 401, b'{"errorMessage": "Invalid user"}'),
    ],
)
def test_401_about_the_account_holds_it(
    bench: Bench, process: WorkerProcess, api: Api, provider: str, status: int, body: bytes
) -> None:
    """Another sentence, or the same one of another provider, is about whoever asks."""
    api.reply = lambda _path, _headers: (status, body)
    delivery = paybook("one") if provider == "paybook" else magicline("CUSTOMER_UPDATED", 1)
    events = asyncio.run(bench.receive(provider, [delivery]))
    process.run(follow_up(process, provider))
    (row,) = asyncio.run(bench.rows(events))
    assert ("waiting", 0) == (row["state"], row["attempts"])
    assert "open" == bench.circuit(provider)


def test_403_of_another_provider_ends_as_refused(bench: Bench, api: Api) -> None:
    """Where nothing is known of what 403 means, it is about what was asked for (RFC 9110, 15.5.4)."""
    port = api.server_port
    api.reply = lambda path, _: (403, b"not this one") if "c-1" in path else (200, b'{"identifier": "c-2"}')
    rows = bench.follow("imin", imin("c-1", port), imin("c-2", port))
    assert [("failed", "refused"), ("done", None)] == [(row["state"], row["reason"]) for row in rows]
    assert "the API answered 403: not this one (5 times)" == rows[0]["detail"]
    assert "closed" == bench.circuit("imin")


@pytest.mark.parametrize("others", [(None,) * 4, (503,) * 4, (200,) * 4, (418, None, 503)])
def test_other_failures_do_not_count_to_the_tries_of_what_is_not_found(
    bench: Bench, api: Api, others: Sequence[int | None]
) -> None:
    """A contract that is not in its list yet has five tries of its own, whatever else went wrong between them."""
    answers: Iterator[Reply | None] = iter(
        [
            *[(200, b"[]")] * 2,
            *[None if status is None else (status, b"no JSON") for status in others],
            *[(200, b"[]")] * 2,
            (200, b'[{"id": 5}]'),
        ]
    )
    api.reply = lambda _path, _headers: next(answers)

    (row,) = bench.follow("magicline", magicline("CONTRACT_CREATED", 1, contractId=5))

    assert ("done", 4) == (row["state"], row["refusals"])
    assert row["attempts"] > 5  # not one more for each: aiohttp asks once more by itself where a connection was cut


def test_what_stays_not_found_ends_with_a_sentence_that_says_so(bench: Bench, api: Api) -> None:
    """Five answers of the kind, and no talk of an API that keeps failing."""
    api.reply = lambda _path, _headers: (200, b"[]")
    (row,) = bench.follow("magicline", magicline("CONTRACT_CREATED", 1, contractId=5))
    assert ("failed", "attempts-used-up", 5) == (row["state"], row["reason"], row["refusals"])
    assert row["detail"].endswith("the contracts in the answer do not include 5 (5 times)")


def test_an_error_that_postgres_cannot_store_is_stored_all_the_same(bench: Bench, api: Api) -> None:
    """NUL and halves of surrogate pairs in what an API says: the call and its neighbours end as they would have."""
    api.reply = lambda path, _: (403, b"a\0b \xed\xa0\x80 \xff") if "/1" in path else (200, b'{"id": 2}')
    rows = bench.follow("magicline", magicline("CUSTOMER_UPDATED", 1), magicline("CUSTOMER_UPDATED", 2))
    assert [("failed", "missing-scope"), ("done", None)] == [(row["state"], row["reason"]) for row in rows]
    assert "a\ufffdb" in rows[0]["detail"]


@pytest.mark.parametrize("offsets", ["aa", "abab", "abcbcbc", "abcabcabc"])
def test_a_chain_of_offsets_that_goes_round_ends_early(bench: Bench, api: Api, offsets: str) -> None:
    """What its pages brought is kept, and the event says why it failed."""
    after = dict(pairwise(offsets))

    def page(path: str, _headers: Mapping[str, str]) -> Reply:
        at = path.partition("&offset=")[2] or offsets[0]
        row = {"checkinId": f"at-{at}"}
        return 200, orjson.dumps({"result": [row], "hasNext": True, "offset": after[at]})

    api.reply = page
    row, *_ = bench.follow("magicline", magicline("CUSTOMER_CHECKIN", 1))

    assert ("failed", "endless-pages") == (row["state"], row["reason"])
    assert len(api.asked) <= 3 * len(set(offsets)) + 1
    assert len(set(offsets)) == bench.count("records")
