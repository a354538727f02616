"""The console: real pages from a real process, read by an HTTP client."""

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from operators.conftest import Store, clean_environment
from operators.rows import NOW, change, event, fetch, link, new_id, record, step
from ops.console.wording import age, count, size
from ops.embedded.postgres import Postgres
from shared import arrivals
from shared.sealing import Keys, generate_key
from shared.store.migrating import upgrade
from support.conditions import HANG_SECONDS


NOTHING = "\N{EN DASH}"
ROTATING = """
[[imin.accounts]]
name = "main"
webhook_keys = ["new-key", "old-key"]
api_key = "to-them"
base_url = "https://book.imin.co"
"""


@contextlib.contextmanager
def running_console(folder: Path, database_url: str, redis_url: str, **variables: str) -> Iterator[httpx.Client]:
    """A console process on a free port, and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        "PENSTOCK_DATABASE_URL": database_url,
        "PENSTOCK_REDIS_URL": redis_url,
        "PENSTOCK_CONSOLE_PORT": str(port),
        **variables,
    }
    command = [sys.executable, "-m", "ops", "console"]
    with (
        subprocess.Popen(command, env=clean_environment(environment), cwd=folder) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=HANG_SECONDS) as client,
    ):
        try:
            _wait_until_it_listens(client)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(HANG_SECONDS)


def _wait_until_it_listens(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.get("/static/icon.svg")
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def console(store: Any, redis: Any, tmp_path: Path) -> Iterator[httpx.Client]:
    """A console without a password, on this test's database."""
    with running_console(tmp_path, store.url, redis.url) as client:
        yield client


@pytest.fixture(scope="module")
def empty_console(
    postgres: Postgres, template: str, redis: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """One console on an empty database, for all tests that leave it so."""
    name = f"console_{uuid.uuid4().hex}"
    Store(postgres.url).rows(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = f"{postgres.url.rpartition('/')[0]}/{name}"
    with running_console(tmp_path_factory.mktemp("console"), url, redis.url) as client:
        yield client


def test_the_overview_counts_and_its_script_gets_the_same_counts(store: Any, console: httpx.Client) -> None:
    """Each figure is on the page without the script, and in the script's answer."""
    store.run(*(event(provider="magicline", state="parked") for _ in range(1234)))
    page = console.get("/").text
    assert 'href="/events?provider=magicline&amp;state=parked" data-state="parked">1,234</a>' in page
    assert '<noscript><meta http-equiv="refresh"' in page
    rows = {row["provider"]: row for row in console.get("/api/stats").json()}
    assert 1234 == rows["magicline"]["events"]["parked"]
    assert {"imin", "magicline", "paybook", "authenteq"} == set(rows)


@pytest.mark.parametrize("page", ["/", "/attention"])
def test_what_is_stuck_is_said_first(store: Any, console: httpx.Client, page: str) -> None:
    """With what to do; an error that holds markup is text."""
    assert "is stuck" not in console.get(page).text
    store.run(
        """
        INSERT INTO relay_duties (duty, succeeded_at, patience_seconds, error)
        VALUES ('queue-due', now() - interval '10 minutes', 120, '<b>took too long</b>')
        """
    )
    text = console.get(page).text
    assert "relay is stuck" in text
    assert "It has not queued what is due for 10 min (&lt;b&gt;took too long&lt;/b&gt;)" in text


def test_events_are_paged_by_key_and_filtered(store: Any, console: httpx.Client) -> None:
    """Following "Older" shows each event that the filter lets through once, newest first, and then ends."""
    wanted = [new_id() for _ in range(120)]
    store.run(*(event(event_id, state="failed") for event_id in wanted), *(event(state="done") for _ in range(5)))
    seen: list[str] = []
    address: str | None = "/events?state=failed&provider=imin"
    while address:
        page = console.get(address).text
        seen += re.findall(r'href="/events/([0-9a-f-]{36})"', page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        address = older[1].replace("&amp;", "&") if older else None
    assert [str(event_id) for event_id in reversed(wanted)] == seen
    assert "There is no such event." in console.get("/events?state=parked").text


def test_an_event_shows_its_timeline_calls_and_headers_and_nothing_of_it_runs(
    store: Any, console: httpx.Client
) -> None:
    """What came from outside is text on the page, never markup."""
    event_id, nasty = new_id(), "<script>alert(1)</script>"
    store.run(
        event(event_id, event_types=[nasty], headers=[("x-one", nasty), ("x-one", "again")], account=nasty),
        fetch("a", path=f"/v1/{nasty}", error_reason="poison", error_detail=nasty, state="failed"),
        link(event_id, 1),
        step(event_id, "planned", nasty),
    )
    page = console.get(f"/events/{event_id}").text
    assert nasty not in page
    assert 6 <= page.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert ["x-one", "x-one"] == re.findall(r'<th scope="row">([^<]+)</th>', page)
    assert nasty not in console.get("/events").text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nowhere", 404),
        ("/events/nonsense", 404),
        ("/events/01970000-0000-7000-8000-000000000000", 404),
        ("/events?before=nonsense", 400),
        ("/records?after=one", 400),
        ("/records/one?provider=imin&account=main&kind=imin.customer-account&external_id=x", 404),
        ("/attention/retry?provider=imin&reason=refused", 404),
        ("/attention/retries/7", 404),
        ("/static/../app.py", 404),
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(empty_console: httpx.Client, address: str, status: int) -> None:
    """With a way back."""
    answer = empty_console.get(address)
    assert status == answer.status_code
    assert '<a href="/">' in answer.text


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("/events?provider=nobody", "There is no provider nobody; known are imin"),
        ("/events?state=lost", "There is no state lost; known are received"),
        ("/events?since=yesterday", "since: write a time such as 2026-05-01T12:30"),
        ("/events?until=0001-01-01T00:00%2B23:59", "until: write a time"),
        ("/events?account=a%00b", "account: at most 200 letters, without control characters."),
        (f"/events?words={'x' * 201}", "words: at most 200 letters"),
        ("/records?kind=a%00b", "without control characters"),
        ("/handovers?state=lost", "There is no such state; known are pending"),
        ("/handovers?handler=nobody", "There is no handler of that name."),
    ],
)
def test_a_wrong_filter_is_a_sentence(empty_console: httpx.Client, address: str, sentence: str) -> None:
    """On the page with the filters, so that it can be put right there."""
    answer = empty_console.get(address)
    assert 400 == answer.status_code
    assert sentence in answer.text
    assert "<form" in answer.text


@pytest.mark.parametrize(
    "words", ["", "'", '"', "a:*", "!", "& |", "((", "-", "é ß", "%", "\\", "or", "a OR", "\U0001f600", "NULL", "<->"]
)
def test_any_words_can_be_looked_for(empty_console: httpx.Client, words: str) -> None:
    """No word is a fault of the page, however a database reads it."""
    for name in ("words", "entity", "type", "account"):
        assert 200 == empty_console.get("/events", params={name: words}).status_code


def test_the_id_of_an_event_leads_to_its_page(store: Any, console: httpx.Client) -> None:
    """Whoever pastes a receipt into the filter is there."""
    event_id = new_id()
    store.run(event(event_id))
    answer = console.get("/events", params={"entity": str(event_id)})
    assert (303, f"/events/{event_id}") == (answer.status_code, answer.headers["location"])


def test_each_filter_lets_its_events_through_and_no_other(store: Any, console: httpx.Client) -> None:
    """By itself, and together with others."""
    later, latest = NOW + timedelta(days=2), NOW + timedelta(days=3)
    wanted, second, other, called = new_id(), new_id(), new_id(later), new_id(latest)
    discarded, stranger = new_id(), new_id()
    store.run(
        event(discarded, state="parked", error_reason="not-json", error_detail="refused", discarded_at=NOW),
        event(stranger, account="", state="quarantined"),
        event(wanted, provider="magicline", account="berlin", state="failed", event_types=["CUSTOMER_UPDATED"],
              error_reason="refused", error_detail="the API answered 410: gone for good"),
        event(second, provider="magicline", account="hamburg", event_types=["CONTRACT_UPDATED", "CUSTOMER_UPDATED"]),
        event(other, received_at=later),
        event(called, received_at=latest),
        fetch("a", path="/v1/customers/4711"),
        link(called, 1),
        change("4711", provider="magicline", kind="magicline.customer", event_id=second, seq=1),
    )  # fmt: skip
    for query, found in {
        "provider=magicline": {wanted, second},
        "account=berlin": {wanted},
        "provider=imin&account=main": {other, called},
        "state=failed": {wanted},
        "state=done": {second, other, called},
        "type=CUSTOMER_UPDATED": {wanted, second},
        "type=CUSTOMER_UPDATED&account=hamburg": {second},
        "since=2026-05-02T00:00": {other, called},
        "since=2026-05-02T00:00&until=2026-05-04T00:00": {other},
        "words=gone+410": {wanted},
        "words=refused": {wanted},
        "words=%22answered+410%22": {wanted},
        "words=nothing": set(),
        "entity=4711": {called, second},
        "entity=4711&provider=magicline": {second},
        "entity=471": set(),
        "state=discarded": {discarded},
        "state=discarded&provider=paybook": set(),
        "state=quarantined": {stranger},
    }.items():
        page = console.get(f"/events?{query}").text
        assert {str(each) for each in found} == set(re.findall(r'href="/events/([0-9a-f-]{36})"', page)), query


def test_a_change_is_shown_with_what_its_members_were_and_became(store: Any, console: httpx.Client) -> None:
    """On the record's page and on the event's: what came after is what the next change of it keeps, or what is now."""
    first, second = new_id(), new_id()
    store.run(
        event(first),
        event(second),
        record("abc", '{"name": "Zoë", "iban": "sealed:xxxx", "age": 3}'),
        change(changed=[], op="created", seq=1),
        change(
            changed=["age", "gone", "iban", "long", "name"],
            seq=2,
            event_id=first,
            before='{"name": ["Ann"], "iban": ["sealed:yyyy"], "age": [], "gone": [{"a": 1}], "long": null}',
        ),
        change(changed=["name"], event_id=second, before='{"name": ["Bob"]}', seq=3),
    )
    key = "provider=imin&account=main&kind=imin.customer-account&external_id=abc"
    pages = {name: _diffs(console.get(name).text) for name in (f"/records/one?{key}", f"/events/{first}")}
    newest = ["name", "del &#34;Bob&#34;", "ins &#34;Zoë&#34;"]
    of_first = [
        *("age", "muted not there", "ins 3"),
        *("gone", "del {&#34;a&#34;: 1}", "muted not there"),
        *("iban", "muted private: only that it differs"),
        *("long", "muted not kept", "muted not there"),
        *("name", "del &#34;Ann&#34;", "ins &#34;Bob&#34;"),
    ]
    assert {f"/records/one?{key}": [*newest, *of_first], f"/events/{first}": of_first} == pages


def _diffs(page: str) -> list[str]:
    found = re.findall(r"<dt>([^<]*)</dt>|<(del|ins)>([^<]*)</|<span class=\"(muted)\">([^<]*)</span>", page)
    listed = page.count('<dl class="diff">')
    assert listed
    return [
        member or f"{tag or muted} {value or told}"
        for member, tag, value, muted, told in found
        if member in {"age", "gone", "iban", "long", "name"} or tag or told.startswith(("not ", "private"))
    ]


def test_what_ingress_told_of_arrivals_is_on_overview_and_accounts(
    store: Any, empty_redis: Any, tmp_path: Path
) -> None:
    """Percentiles of the last hour; when each webhook key was last used, and what that says of a rotation."""
    key = generate_key()
    (tmp_path / "penstock.toml").write_text(ROTATING, encoding="utf-8")

    async def tell() -> None:
        async with Redis.from_url(empty_redis.url) as client:
            keys = Keys.parse([SecretStr(key)])
            now = time.time()
            counts = {"imin": [0, 0, 98, 0, 0, 0, 0, 0, 2]}
            await arrivals.tell(client, {}, [("imin", "main", b"old-key")], keys, at=now - 7200)
            await arrivals.tell(client, counts, [("imin", "main", b"new-key")], keys, at=now)

    asyncio.run(tell())
    with running_console(tmp_path, store.url, empty_redis.url, PENSTOCK_ENCRYPTION_KEYS=key) as client:
        standing = {row["provider"]: row["standing"] for row in client.get("/api/stats").json()}
        assert 100 == standing["imin"]["acknowledged"]
        told = standing["imin"]
        assert 0.0025 < told["acknowledged_p50"] <= 0.005
        assert 0.25 < told["acknowledged_p99"] <= 0.5
        assert (0, None) == (standing["paybook"]["acknowledged"], standing["paybook"]["acknowledged_p99"])
        assert "3.8 ms" in client.get("/").text
        page = client.get("/accounts").text
        assert "Out of use: the other one has been used for 2 h 0 min since." in page
        assert [] == [secret for secret in ("old-key", "new-key") if secret in page]


def test_without_redis_overview_and_accounts_show_what_postgres_knows(store: Any, tmp_path: Path) -> None:
    """A dash for what nobody can tell; no error."""
    (tmp_path / "penstock.toml").write_text(ROTATING, encoding="utf-8")
    store.run(event(state="parked"))
    with running_console(
        tmp_path, store.url, "redis://127.0.0.1:9/0", PENSTOCK_ENCRYPTION_KEYS=generate_key()
    ) as client:
        assert f'data-standing="acknowledged_p99">{NOTHING}<' in client.get("/").text
        assert "Not known: ingress tells it by way of Redis" in client.get("/accounts").text


def test_events_link_to_their_tasks_in_flower_where_one_is_named(store: Any, redis: Any, tmp_path: Path) -> None:
    """As `[console] flower_url` says; without one, and without a flower beside it, there is no link."""
    event_id = new_id()
    store.run(event(event_id))
    config = tmp_path / "penstock.toml"
    config.write_text('[console]\nflower_url = "https://flower.example.com/f/"\n', encoding="utf-8")
    with running_console(tmp_path, store.url, redis.url) as client:
        page = client.get(f"/events/{event_id}").text
        assert f'href="https://flower.example.com/f/tasks?name=imin.plan%20args%3A{event_id}"' in page
    config.write_text("", encoding="utf-8")
    with running_console(tmp_path, store.url, redis.url) as client:
        assert "flower" not in client.get(f"/events/{event_id}").text


def test_pages_load_and_run_nothing_from_elsewhere(empty_console: httpx.Client) -> None:
    """The browser is told so; no page names another host; nothing is kept in a cache."""
    answer = empty_console.get("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
    assert "no-store" == answer.headers["cache-control"]
    for name in ("/", "/events", "/static/console.css", "/static/console.js"):
        assert [] == re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]+", empty_console.get(name).text)


def test_pages_are_only_looked_at(empty_console: httpx.Client) -> None:
    """What shows something takes no method but GET and HEAD."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for address in ("/", "/events", "/records", "/accounts", "/handovers", "/quarantine", "/api/stats"):
            assert 405 == empty_console.request(method, address).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "penstock.attacker.example"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Host": ""},
    ],
)
def test_without_a_password_only_this_machine_is_served(empty_console: httpx.Client, headers: dict[str, str]) -> None:
    """A name that was pointed at this machine, or a proxy's request, gets a sentence and no data."""
    for address in ("/", "/api/stats", "/events"):
        answer = empty_console.get(address, headers=headers)
        assert 403 == answer.status_code
        assert "PENSTOCK_CONSOLE_PASSWORD" in answer.text


def test_while_postgres_is_away_a_page_says_so_and_comes_back_by_itself(tmp_path: Path, redis: Any) -> None:
    """503 with the URL that was tried, without its password; the page refreshes itself and works again later."""
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    with Postgres(tmp_path / "own") as server:
        upgrade(server.url)
        with running_console(tmp_path, server.url, redis.url) as client:
            assert 200 == client.get("/").status_code
            server.stop()
            for address in ("/", "/events", f"/events/{new_id()}"):
                answer = client.get(address)
                assert (503, "5") == (answer.status_code, answer.headers["retry-after"])
                assert "Postgres does not answer at postgresql://penstock@127.0.0.1:" in answer.text
                assert '<meta http-equiv="refresh" content="5">' in answer.text
            answer = client.get("/api/stats")
            assert (503, "unavailable") == (answer.status_code, answer.json()["error"])
            server.start()
            Store(server.url).run(event(received_at=NOW))
            assert 200 == client.get("/").status_code


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, NOTHING),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3_725, "1 h 2 min"),
        (200_000, "2 d 7 h"),
        (-5, "0 s"),
    ],
)
def test_ages_read_in_their_two_largest_units(seconds: float | None, text: str) -> None:
    """A dash where there is none."""
    assert text == age(seconds)


def test_figures_and_sizes_read_well() -> None:
    """Thousands apart; sizes in the unit that fits."""
    assert ("1,234,567", NOTHING) == (count(1_234_567), count(None))
    assert ("1,023 bytes", "1.5 KiB", "64.0 MiB") == (size(1023), size(1536), size(64 * 1024**2))
