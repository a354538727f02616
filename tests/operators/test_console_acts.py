"""What an operator does in the console: retrying many, discarding, letting in what was refused; all is recorded."""

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from operators.rows import event, new_id
from operators.test_console import running_console
from operators.test_console_access import USERS, csrf_of, sign_in
from operators.test_quarantine import CONFIG
from shared.quarantine import Refused, seal_head
from shared.sealing import Keys, generate_key
from shared.store.quarantine import NewRefused, keep
from support.conditions import until


GROUP = {"provider": "magicline", "reason": "refused"}


@pytest.fixture
def key() -> str:
    """The installation's encryption key."""
    return generate_key()


@pytest.fixture
def console(store: Any, redis: Any, tmp_path: Path, key: str) -> Iterator[httpx.Client]:
    """A console in which otto, an operator, has signed in; the webhook key of imin's account is ``old``."""
    (tmp_path / "penstock.toml").write_text(USERS + CONFIG.format(key="old"), encoding="utf-8")
    with running_console(tmp_path, store.url, redis.url, PENSTOCK_ENCRYPTION_KEYS=key) as client:
        sign_in(client, "otto")
        yield client


def send(client: httpx.Client, address: str, **fields: str) -> httpx.Response:
    """A form of the console's own."""
    return client.post(address, data={"csrf": csrf_of(client.get("/")), **fields})


def failed(number: int, **columns: Any) -> list[Any]:
    """So many events that failed for the reason of the group."""
    more = {"provider": "magicline", "state": "failed", "error_reason": "refused", "error_detail": "410", **columns}
    return [event(**more) for _ in range(number)]


def test_a_bulk_retry_is_a_replay_as_commands_make_it(store: Any, console: httpx.Client) -> None:
    """One row says who, why, which and how far; the page shows it, and so does every later console."""
    store.run(*failed(1200), *failed(3, state="parked"), *failed(2, error_reason="poison"))
    answer = send(console, "/attention/retry", **GROUP, note="the API is back")
    assert 303 == answer.status_code
    until(lambda: 2 == len(store.rows("SELECT FROM replays WHERE finished_at IS NOT NULL")))
    rows = store.rows(
        "SELECT what, who, reason, asked->>'state' AS state, counts->>'replayed' AS done FROM replays ORDER BY id"
    )
    assert [
        ("events", "otto, console", "the API is back", "failed", "1200"),
        ("events", "otto, console", "the API is back", "parked", "3"),
    ] == [tuple(row) for row in rows]
    assert "Ended" in console.get(answer.headers["location"]).text
    assert "1,200</strong> planned again" in console.get(urlsplit(answer.headers["location"]).path).text
    assert "the API is back" in console.get("/attention").text
    assert 2 == len(store.rows("SELECT FROM events WHERE state = 'failed'"))
    (told,) = store.rows("SELECT DISTINCT detail FROM timeline WHERE step = 'replayed'")
    assert "the API is back (by otto, console)" == told["detail"]


def test_a_retry_that_was_broken_off_goes_on_where_it_stopped(store: Any, console: httpx.Client) -> None:
    """Whoever began it, here or by the command, and whichever console goes on."""
    ids = sorted(new_id() for _ in range(4))
    store.run(
        *(event(each, **{**_columns(), "received_at": datetime.now(UTC)}) for each in ids),
        (
            """
            INSERT INTO replays (what, asked, until, reason, who, position, counts)
            VALUES ('events', '{"provider": "magicline", "state": "failed", "error": "refused"}', now(), 'first', 'ana',
                    to_jsonb($1::text), '{"replayed": 2}')
            """,
            str(ids[1]),
        ),
    )
    (row,) = store.rows("SELECT id FROM replays")
    page = console.get(f"/attention/retries/{row['id']}").text
    assert "This console does not work on it" in page
    answer = send(console, "/attention/retry", **GROUP, note="second")
    assert urlsplit(answer.headers["location"]).path == f"/attention/retries/{row['id']}"
    until(lambda: bool(store.rows("SELECT FROM replays WHERE finished_at IS NOT NULL")))
    assert ids[:2] == [each["id"] for each in store.rows("SELECT id FROM events WHERE state = 'failed' ORDER BY id")]


def _columns() -> dict[str, Any]:
    return {"provider": "magicline", "state": "failed", "error_reason": "refused", "error_detail": "410"}


def test_an_event_is_discarded_with_a_reason(store: Any, console: httpx.Client) -> None:
    """No list shows it any more, its page says who discarded it and why; what is done cannot be discarded."""
    dead, done = new_id(), new_id()
    store.run(event(dead, **_columns()), event(done))
    assert 400 == send(console, f"/events/{dead}/discard", reason=" ").status_code
    answer = send(console, f"/events/{dead}/discard", reason="a test")
    page = console.get(answer.headers["location"]).text
    assert "It is discarded" in page
    assert "UTC: a test. No list shows it" in page
    assert "a test (by otto, console)" in page
    assert str(dead) not in console.get("/events").text
    assert str(dead) in console.get("/events?state=discarded").text
    assert "Nothing waits for a person." in console.get("/attention").text
    answer = send(console, f"/events/{done}/discard", reason="a test")
    assert "is neither parked nor failed" in console.get(answer.headers["location"]).text
    assert 404 == send(console, f"/events/{new_id()}/discard", reason="a test").status_code


def test_a_whole_group_is_discarded_with_a_reason(store: Any, console: httpx.Client) -> None:
    """And no other group."""
    store.run(*failed(700), *failed(3, state="parked"), *failed(2, error_reason="poison"))
    assert 400 == send(console, "/attention/discard", **GROUP).status_code
    assert 303 == send(console, "/attention/discard", **GROUP, note="gone for good").status_code
    until(lambda: 703 == len(store.rows("SELECT FROM events WHERE discard_reason = 'gone for good'")))
    assert 2 == len(store.rows("SELECT FROM events WHERE discarded_at IS NULL"))
    assert 404 == send(console, "/attention/discard", **GROUP, note="again").status_code


def _quarantined(store: Any, key: str, *, presented: bytes) -> UUID:
    keys = Keys.parse([SecretStr(key)])
    body = b'{"identifier": "1"}'
    refused = Refused(
        uuid7(), "imin", datetime.now(UTC), "192.0.2.1", "unknown-key", [(b"x-api-key", presented)], b"", body
    )
    row = NewRefused(
        *(refused.id, "imin", refused.received_at, refused.source, refused.cause, seal_head(keys, refused)),
        *(keys.seal(body, refused.id), len(body), hashlib.sha256(body).digest(), ""),
    )

    async def put() -> None:
        connection = await asyncpg.connect(store.url)
        await keep(connection, [row])
        await connection.close()

    asyncio.run(put())
    return UUID(str(refused.id))


def test_what_was_refused_is_let_in_once_its_key_is_in_the_settings(
    store: Any, console: httpx.Client, key: str, tmp_path: Path
) -> None:
    """Not before, and never on an operator's word; the page names the cause, and nothing of what was presented."""
    one, other, stranger = (_quarantined(store, key, presented=each) for each in (b"mended", b"mended", b"stranger"))
    page = console.get("/quarantine").text
    assert [True] * 3 == [str(each) in page for each in (one, other, stranger)]
    assert "unknown-key" in page
    assert "mended" not in page + console.get(f"/events/{one}").text
    assert str(one) not in console.get("/events").text

    answer = send(console, f"/events/{one}/release", reason="looks fine to me")
    assert "It is still not authentic" in console.get(answer.headers["location"]).text
    (tmp_path / "penstock.toml").write_text(USERS + CONFIG.format(key="mended"), encoding="utf-8")

    def let_in() -> bool:
        sent = send(console, f"/events/{one}/release", reason="the key was mistyped")
        return "It is let in" in console.get(sent.headers["location"]).text

    until(let_in)
    assert "the key was mistyped (by otto, console)" in console.get(f"/events/{one}").text
    assert 404 == send(console, f"/events/{one}/release").status_code
    answer = send(console, "/quarantine/release", provider="imin", reason="all that fit")
    assert "1 let in; 1 still not authentic." in console.get(answer.headers["location"]).text
    states = {each["id"]: each["state"] for each in store.rows("SELECT id, state FROM events")}
    assert {one: "received", other: "received", stranger: "quarantined"} == states


def test_a_viewer_looks_at_the_quarantine_and_lets_nothing_in(store: Any, console: httpx.Client, key: str) -> None:
    """No form is there, and one of the viewer's own making is refused."""
    held = _quarantined(store, key, presented=b"old")
    sign_in(console, "vera")
    page = console.get("/quarantine").text
    assert str(held) in page
    assert "<button>Release" not in page
    for address in (f"/events/{held}/release", "/quarantine/release", f"/events/{held}/discard", "/attention/discard"):
        assert 403 == send(console, address, provider="imin", reason="x").status_code
    assert [("quarantined",)] == [tuple(row) for row in store.rows("SELECT state FROM events")]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("/quarantine?provider=nobody", "There is no provider nobody"),
        ("/quarantine?cause=%3Cb%3E", "Nothing is held for the cause &lt;b&gt;."),
    ],
)
def test_a_wrong_filter_of_the_quarantine_is_a_sentence(
    store: Any, console: httpx.Client, key: str, address: str, sentence: str
) -> None:
    """On the page with the filters."""
    _quarantined(store, key, presented=b"x")
    answer = console.get(address)
    assert (400, True) == (answer.status_code, sentence in answer.text)
