"""Refused deliveries are kept for a day, within bounds, and let in once a mended key proves them."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import orjson
import pytest
from uuid_utils.compat import uuid7

from ingress.releasing import NotInQuarantine, Outcome, Selection, release
from shared.configuration import read_configuration
from shared.providers.registry import PROVIDERS
from shared.store import quarantine
from shared.store.quarantine import NewRefused
from tests.ingress.conftest import CONFIGURATION, Ingress, Start


BODY = b'{"@id": "https://book.imin.co/api/v2/customer-accounts/1", "identifier": "1"}'
ALL = Selection()


def held(ingress: Ingress, number: int = 1) -> list[asyncpg.Record]:
    """What is in quarantine, once so many are."""
    query = """
        SELECT event_id, provider, account, state, cause, source, headers, body_bytes
        FROM quarantine JOIN events ON id = event_id ORDER BY event_id
    """
    ingress.until(lambda: len(ingress.rows(query)) >= number)
    return ingress.rows(query)


def release_all(ingress: Ingress, selection: Selection = ALL, *, dry_run: bool = False) -> list[Outcome]:
    """Release with the settings that lie in the file now."""

    async def run() -> list[Outcome]:
        connection = await asyncpg.connect(ingress.database_url)
        try:
            batches = release(
                connection,
                selection,
                PROVIDERS,
                read_configuration(ingress.configuration),
                ingress.keys,
                note="mended",
                dry_run=dry_run,
            )
            return [outcome async for batch in batches for outcome in batch]
        finally:
            await connection.close()

    return asyncio.run(run())


def signed(body: bytes, secret: bytes = b"client-secret", form: str = "hmac-sha256") -> str:
    """A signature of Authenteq."""
    if form == "hmac-sha256":
        return hmac.new(secret, body, hashlib.sha256).hexdigest()
    return hashlib.sha256(body + secret).hexdigest()


def test_each_refusal_has_its_cause(start_ingress: Start, database_url: str) -> None:
    """The sender sees one and the same answer; whoever looks into the quarantine sees why."""
    ingress = start_ingress(
        database_url=database_url,
        configuration=CONFIGURATION.replace('["client-secret"]', '["client-secret"]\nsignature = "hmac-sha256"'),
    )
    token = "/webhooks/paybook/paybook-token-0123456789"
    sent = [
        ("missing-credentials", "/webhooks/imin", {}),
        ("unknown-key", "/webhooks/imin", {"X-Api-Key": "wrong"}),
        ("unknown-key", "/webhooks/magicline", {"X-Api-Key": "imin-key"}),
        ("unknown-key", "/webhooks/paybook/wrong", {}),
        ("wrong-header", token, {"X-Hook-Secret": "wrong"}),
        ("missing-credentials", token, {}),
        ("wrong-client-id", "/webhooks/authenteq", {"X-CLIENT-ID": "nobody", "X-SIGNATURE": signed(BODY)}),
        ("malformed-signature", "/webhooks/authenteq", {"X-CLIENT-ID": "client-1", "X-SIGNATURE": "abc"}),
        ("altered-body", "/webhooks/authenteq", {"X-CLIENT-ID": "client-1", "X-SIGNATURE": signed(BODY + b" ")}),
        (
            "other-signature-form",
            "/webhooks/authenteq",
            {"X-CLIENT-ID": "client-1", "X-SIGNATURE": signed(BODY, form="sha256-body-secret")},
        ),
    ]
    replies = [ingress.post(path, headers, BODY) for _, path, headers in sent]

    assert 1 == len({(reply.status, reply.body, tuple(reply.headers)) for reply in replies})
    rows = held(ingress, len(sent))
    assert [cause for cause, _, _ in sent] == [row["cause"] for row in rows]
    assert {("quarantined", "", "[]", "127.0.0.1", len(BODY))} == {
        (row["state"], row["account"], row["headers"], row["source"], row["body_bytes"]) for row in rows
    }


def test_what_a_mended_key_proves_is_let_in(start_ingress: Start, database_url: str) -> None:
    """The event keeps its id and its time, belongs to the account now, and has no credentials in its headers."""
    ingress = start_ingress(database_url=database_url)
    assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "new-key", "X-Kept": "yes"}, BODY).status
    assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "never-right"}, b"other").status
    first, second = held(ingress, 2)

    assert [False, False] == [outcome.released for outcome in release_all(ingress)]
    ingress.configuration.write_text(CONFIGURATION.replace("imin-old-key", "new-key"), encoding="utf-8")
    assert [True, False] == [outcome.released for outcome in release_all(ingress, dry_run=True)]
    assert 2 == len(held(ingress))
    outcomes = release_all(ingress)

    assert [("main", None), (None, "unknown-key")] == [(outcome.account, outcome.reason) for outcome in outcomes]
    (event,) = ingress.rows("SELECT * FROM events WHERE id = $1", first["event_id"])
    assert ("received", "main") == (event["state"], event["account"])
    assert BODY == ingress.body_of(event)
    names = [name.lower() for name, _ in orjson.loads(event["headers"])]
    assert "x-kept" in names
    assert "x-api-key" not in names
    assert [second["event_id"]] == [row["event_id"] for row in held(ingress)]
    steps = ingress.rows("SELECT step, detail FROM timeline WHERE event_id = $1 ORDER BY id", first["event_id"])
    assert [("quarantined", "unknown-key"), ("released", "mended")] == [tuple(step) for step in steps]


def test_an_unknown_id_releases_nothing(start_ingress: Start, database_url: str) -> None:
    """A typing error is told; whatever else was named stays."""
    ingress = start_ingress(database_url=database_url)
    ingress.post("/webhooks/imin", {"X-Api-Key": "new-key"}, BODY)
    (row,) = held(ingress)

    with pytest.raises(NotInQuarantine):
        release_all(ingress, Selection((row["event_id"], UUID(int=7))))

    assert 1 == len(held(ingress))


def test_nothing_of_it_can_be_read_without_the_key(start_ingress: Start, database_url: str) -> None:
    """Body, credentials and other headers are sealed."""
    ingress = start_ingress(database_url=database_url)
    ingress.post("/webhooks/imin", {"X-Api-Key": "MARKEDKEY", "Cookie": "MARKEDCOOKIE"}, b"MARKEDBODY")
    held(ingress)

    for table in ("events", "quarantine", "timeline"):
        for row in ingress.rows(f"SELECT t.*, t::text AS everything FROM {table} t"):  # noqa: S608 - names of tables
            assert "MARKED" not in repr(tuple(row)).upper()
            assert b"MARKED".hex() not in row["everything"]


def test_a_body_that_is_large_or_does_not_end_is_not_kept(start_ingress: Start, database_url: str) -> None:
    """More than 64 KiB of a stranger are not held; what is refused is refused all the same."""
    ingress = start_ingress(database_url=database_url)
    assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "wrong"}, b"x" * 70_000).status
    wire = ingress.wire()
    wire.send(b"POST /webhooks/imin HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    assert 401 == wire.reply().status
    wire.close()
    assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "wrong"}, b"small").status

    assert [5] == [row["body_bytes"] for row in held(ingress)]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to a fresh database."""
    made = await asyncpg.connect(database_url)
    yield made
    await made.close()


def refused(source: str = "192.0.2.1", size: int = 10) -> NewRefused:
    """A sealed delivery."""
    return NewRefused(
        uuid7(), "imin", datetime.now(UTC), source, "unknown-key", b"head", b"b" * size, size, b"d" * 32, ""
    )


@pytest.mark.anyio
async def test_it_holds_so_many_of_one_sender(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """One address does not fill it: the next one still finds room."""
    most = quarantine.MOST_OF_A_SOURCE
    room = await quarantine.keep(connection, [refused() for _ in range(most + 5)])
    assert (most, False, {"192.0.2.1"}) == (room.kept, room.full, room.full_sources)

    assert 0 == (await quarantine.keep(connection, [refused()])).kept
    assert 1 == (await quarantine.keep(connection, [refused("192.0.2.2")])).kept


@pytest.mark.anyio
async def test_it_holds_so_many_and_so_much(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """From however many addresses: neither rows nor bytes grow past their bounds."""
    large = 1024 * 1024
    room = await quarantine.keep(connection, [refused(f"192.0.2.{n}", large) for n in range(70)])
    assert (quarantine.MOST_BYTES // (large + 4), True) == (room.kept, room.full)
    await connection.execute("TRUNCATE events, quarantine, timeline")

    room = await quarantine.keep(connection, [refused(f"{n}") for n in range(quarantine.MOST + 5)])
    assert (quarantine.MOST, True) == (room.kept, room.full)


@pytest.mark.anyio
async def test_it_lapses_after_a_day_in_chunks(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What is old goes with its event and its timeline, some at a time; what was released stays."""
    await quarantine.keep(connection, [refused() for _ in range(5)])
    await connection.execute("UPDATE quarantine SET kept_at = now() - interval '25 hours'")
    await quarantine.keep(connection, [refused()])

    assert [2, 2, 1, 0] == [await quarantine.lapse(connection, 2) for _ in range(4)]

    for table in ("events", "quarantine", "timeline"):
        assert 1 == await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of tables


@pytest.mark.anyio
async def test_what_was_let_in_is_released_once(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Two operators at once: the second finds it gone."""
    one = refused()
    await quarantine.keep(connection, [one])
    assert [] == await quarantine.missing(connection, [one.id])

    async with connection.transaction():
        (sealed,) = await quarantine.take(connection, UUID(int=0), [one.id], None, 10)
        await quarantine.let_in(connection, [quarantine.LetIn(sealed.id, "main", "[]", b"sealed")], "because")

    assert [one.id] == await quarantine.missing(connection, [one.id])
    assert [] == await quarantine.take(connection, UUID(int=0), [], None, 10)
