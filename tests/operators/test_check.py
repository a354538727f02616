"""``penstock check``: a line each, ok or what to do; against real stores and the provider lab."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis as redis_client

from ops.embedded.redis import Redis
from ops.lab.process import Lab, running_lab


NOWHERE = "127.0.0.1:1"
KEYS = 'webhook_keys = ["key-of-the-webhook"]\napi_key = "key-of-the-api"'
ONE_ACCOUNT = """
[[{provider}.accounts]]
name = "main"
{keys}
base_url = "{base_url}"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Lab]:
    """One lab for these tests."""
    with running_lab(seed=7) as lab:
        yield lab


@pytest.fixture
def lab(running: Lab, tmp_path: Path) -> Lab:
    """The lab as new, and its accounts in this test's penstock.toml."""
    running.reset()
    (tmp_path / "penstock.toml").write_text(running.config_toml())
    return running


def _findings(result: Any) -> dict[str, list[tuple[str, str]]]:
    """Item -> the level and sentence of each of its lines."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in result.lines:
        found.setdefault(line["item"], []).append((line["level"], line["sentence"]))
    return found


@pytest.mark.usefixtures("lab")
def test_where_all_is_well_every_line_is_ok_or_advice(penstock: Any) -> None:
    """Settings, stores and the credentials of every provider are tested, and the exit status is 0."""
    result = penstock("check", "--json")
    found = _findings(result)
    assert (0, "") == (result.status, result.errors)
    assert {
        "settings",
        "time limits",
        "encryption keys",
        "Postgres",
        "schema",
        "Redis",
        "Redis memory",
        "Redis persistence",
        "blob store",
    } <= set(found)
    assert {"imin", "magicline", "paybook", "authenteq"} <= {item.split()[0] for item in found}
    assert "fix" not in {level for lines in found.values() for level, _ in lines}
    assert ["ok"] == [level for level, _ in found["blob store"]]
    assert "version 18" in found["Postgres"][0][1]
    assert "appendfsync always: a write is on disk when Redis answers" in found["Redis persistence"][0][1]


def test_people_get_a_line_each(lab: Lab, penstock: Any) -> None:
    """Level, item, sentence."""
    lines = penstock("check").output.decode().splitlines()
    assert {"ok", "advice"} >= {line.split()[0] for line in lines}
    assert len(lab.accounts()) < len(lines)


def test_wrong_keys_are_found_for_every_provider(lab: Lab, penstock: Any, tmp_path: Path) -> None:
    """A key that the provider refuses is a fix that names the account, and the exit status is 1."""
    path = tmp_path / "penstock.toml"
    lines = [
        f"{line.partition(' = ')[0]} = {wrong}"
        if (wrong := {"api_key": '"wrong-key-{}"', "client_secrets": '["wrong-secret"]'}.get(line.partition(" = ")[0]))
        else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(line.replace("{}", str(number)) for number, line in enumerate(lines)))
    result = penstock("check", "--json")
    found = _findings(result)
    assert 1 == result.status
    for account in lab.accounts():
        if account.provider == "imin":  # the lab has no such read; the next test has
            continue
        level, sentence = found[f"{account.provider} {account.name}"][0]
        assert "fix" == level
        assert "credentials are refused" in sentence


@pytest.mark.parametrize(
    ("status", "level", "sentence"),
    [
        (200, "ok", "its credentials are accepted"),
        (401, "fix", "its credentials are refused"),
        (403, "fix", "its credentials are refused"),
        (404, "advice", "tells nothing about its credentials"),
        (302, "advice", "tells nothing about its credentials"),
        (429, "advice", "its limit is used up"),
        (503, "advice", "the provider is in trouble"),
    ],
)
def test_what_a_provider_answers_is_said_in_a_sentence(
    penstock: Any, tmp_path: Path, status: int, level: str, sentence: str
) -> None:
    """One call, with the account's own key, to its own host; a redirection is not followed."""
    seen: list[tuple[str, str]] = []

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["X-API-KEY"]))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            base_url = f"http://127.0.0.1:{server.server_port}"
            (tmp_path / "penstock.toml").write_text(ONE_ACCOUNT.format(provider="imin", keys=KEYS, base_url=base_url))
            found = _findings(penstock("check", "--json"))
        finally:
            server.shutdown()
            thread.join()
    assert [("/api/v2/entitlements", "key-of-the-api")] == seen
    assert level == found["imin main"][0][0]
    assert sentence in found["imin main"][0][1]


def test_stores_that_are_away_are_named_without_their_passwords(penstock: Any) -> None:
    """Each store's line says which URL was tried and what to do; the other lines are still there."""
    result = penstock(
        "check",
        "--json",
        PENSTOCK_DATABASE_URL=f"postgresql://someone:secret-1@{NOWHERE}/x",
        PENSTOCK_REDIS_URL=f"redis://:secret-2@{NOWHERE}/0",
        PENSTOCK_BLOB_URL="file:///proc/no-such-folder",
    )
    found = _findings(result)
    assert 1 == result.status
    for item in ("Postgres", "Redis", "blob store"):
        assert ["fix"] == [level for level, _ in found[item]]
    assert NOWHERE in found["Postgres"][0][1]
    assert NOWHERE in found["Redis"][0][1]
    assert "ok" == found["encryption keys"][0][0]
    assert b"secret" not in result.output


def test_a_setting_that_is_wrong_is_named_and_the_stores_are_tested_all_the_same(penstock: Any, tmp_path: Path) -> None:
    """An invalid penstock.toml is one line; an invalid variable stops the check with one line."""
    (tmp_path / "penstock.toml").write_text("[timing]\ncall_seconds = 500\n")
    found = _findings(penstock("check", "--json"))
    assert "fix" == found["settings"][0][0]
    assert "call_seconds must be less than soft_limit_seconds" in found["settings"][0][1]
    assert "ok" == found["Postgres"][0][0]
    result = penstock("check", "--json", PENSTOCK_INGRESS_PORT="eighty")
    assert 1 == result.status
    assert ["environment"] == list(_findings(result))


@pytest.mark.parametrize(
    ("settings", "item", "level", "sentence"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "Redis memory", "fix", "set it to noeviction"),
        ({"appendfsync": "everysec"}, "Redis persistence", "advice", "can lose the last second"),
        ({"appendfsync": "no"}, "Redis persistence", "advice", "half a minute"),
        ({"appendonly": "no"}, "Redis persistence", "advice", "no event is spooled"),
    ],
)
def test_what_redis_keeps_is_said_in_a_sentence(
    tmp_path: Path, penstock: Any, settings: dict[str, str], item: str, level: str, sentence: str
) -> None:
    """Eviction must be off; the persistence setting is explained."""
    with Redis(tmp_path / "own") as server, redis_client.Redis.from_url(server.url) as client:
        for name, value in settings.items():
            client.config_set(name, value)
        found = _findings(penstock("check", "--json", PENSTOCK_REDIS_URL=server.url))
    assert level == found[item][0][0]
    assert sentence in found[item][0][1]


def test_a_provider_that_does_not_answer_is_given_up_after_its_deadline(penstock: Any, tmp_path: Path) -> None:
    """A server that accepts and says nothing costs five seconds and is one line."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (tmp_path / "penstock.toml").write_text(ONE_ACCOUNT.format(provider="imin", keys=KEYS, base_url=base_url))
        found = _findings(penstock("check", "--json"))
    assert (
        "fix",
        f"{base_url} does not answer: no complete answer within 5 s; check base_url and the network",
    ) == found["imin main"][0]


def test_an_unmigrated_database_is_told_to_be_migrated(postgres: Any, penstock: Any) -> None:
    """The schema's line names the command."""
    url = f"{postgres.url.rpartition('/')[0]}/postgres"
    found = _findings(penstock("check", "--json", PENSTOCK_DATABASE_URL=url))
    assert ("fix", "the database has no tables yet: run `penstock migrate`") == found["schema"][0]


def test_what_a_database_sets_and_no_connection_of_ours_does_is_said(penstock: Any, store: Any) -> None:
    """One that takes no writes needs mending; one that ends long work halfway is advised against."""
    name = store.url.rpartition("/")[2]
    for setting, value in (
        ("default_transaction_read_only", "on"),
        ("idle_session_timeout", "'90s'"),
        ("temp_file_limit", "'1GB'"),
        ("statement_timeout", "'1ms'"),
        ("DateStyle", "'German'"),
    ):
        asyncio.run(_set(store.url, name, setting, value))

    found = _findings(penstock("check", "--json", CELERY_BROKER_URL="redis://theirs", PGSSLMODE="verify-full"))

    assert {"default_transaction_read_only is on": "fix", "idle_session_timeout is 90000": "advice"}.items() <= {
        sentence.partition(":")[0]: level for level, sentence in found["Postgres settings"]
    }.items()
    assert "DateStyle" not in str(found)
    assert {"CELERY_BROKER_URL", "PGSSLMODE"} <= {
        name for _, sentence in found["environment, ignored"] for name in sentence.partition(":")[0].split(", ")
    }


async def _set(url: str, database: str, setting: str, value: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"})
    try:
        await connection.execute(f"ALTER DATABASE {database} SET {setting} = {value}")
    finally:
        await connection.close()
