"""``penstock check --production``: a deployment that would lose data or stands open is refused, with what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client

from ops.embedded.redis import Redis


ACCOUNT = """
[[magicline.accounts]]
name = "studio-berlin"
webhook_keys = ["key-of-the-webhook"]
api_key = "key-of-the-api"
base_url = "{base_url}"
"""
NOBODY = "http://127.0.0.1:1"

Penstock = Callable[..., Any]


def _sentences(result: Any, level: str) -> dict[str, str]:
    """Item -> sentence of every finding of that level."""
    return {line["item"]: line["sentence"] for line in result.lines if line["level"] == level}


@pytest.fixture
def locked() -> dict[str, str]:
    """Passwords of one's own for the pages."""
    return {"PENSTOCK_FLOWER_PASSWORD": "flower-secret", "PENSTOCK_CONSOLE_PASSWORD": "console-secret"}


def test_what_would_be_refused_is_not_mentioned_without_the_flag(penstock: Penstock) -> None:
    """The checks for production are made where they are asked for."""
    assert "own Postgres" not in {line["item"] for line in penstock("check", "--json").lines}


def test_a_deployment_with_everything_of_its_own_passes(penstock: Penstock, locked: dict[str, str]) -> None:
    """Stores, key and passwords are set, commits are durable, clocks agree: nothing is to be mended."""
    result = penstock("check", "--production", "--json", **locked)
    assert {} == _sentences(result, "fix")
    assert {
        "own Postgres",
        "own Redis",
        "own encryption key",
        "flower",
        "console",
        "https",
        "Postgres durability",
    } <= set(_sentences(result, "ok"))
    assert 0 == result.status


@pytest.mark.parametrize(
    ("variable", "item"),
    [
        ("PENSTOCK_DATABASE_URL", "own Postgres"),
        ("PENSTOCK_REDIS_URL", "own Redis"),
        ("PENSTOCK_ENCRYPTION_KEYS", "own encryption key"),
        ("PENSTOCK_FLOWER_PASSWORD", "flower"),
        ("PENSTOCK_CONSOLE_PASSWORD", "console"),
    ],
)
def test_each_variable_that_production_needs_is_asked_for_by_name(
    penstock: Penstock, locked: dict[str, str], variable: str, item: str
) -> None:
    """Left out, it is a line to be mended that names it, and the exit status is 1."""
    result = penstock("check", "--production", "--json", **{**locked, variable: None})
    assert variable in _sentences(result, "fix")[item]
    assert 1 == result.status


def test_an_account_that_is_called_over_http_is_refused(
    penstock: Penstock, locked: dict[str, str], tmp_path: Path
) -> None:
    """Even at a loopback address: keys and members' data belong into TLS."""
    (tmp_path / "penstock.toml").write_text(ACCOUNT.format(base_url=NOBODY))
    found = _sentences(penstock("check", "--production", "--json", **locked), "fix")
    assert found["https"].startswith("magicline studio-berlin: ")


def test_a_redis_without_an_append_only_file_is_refused(
    penstock: Penstock, locked: dict[str, str], redis: Redis
) -> None:
    """What is spooled there while Postgres is away would end with it."""
    with Client.from_url(redis.url) as client:
        client.config_set("appendonly", "no")
        try:
            result = penstock("check", "--production", "--json", **locked)
        finally:
            client.config_set("appendonly", "yes")
    assert "set appendonly yes" in _sentences(result, "fix")["Redis append-only file"]


def test_a_postgres_that_does_not_wait_for_the_disk_is_refused(
    penstock: Penstock, locked: dict[str, str], store: Any
) -> None:
    """synchronous_commit off means that an acknowledged event may be gone after a crash."""
    name = store.rows("SELECT current_database() AS name")[0]["name"]
    store.run(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    result = penstock("check", "--production", "--json", **locked)
    assert "synchronous_commit off" in _sentences(result, "fix")["Postgres durability"]
