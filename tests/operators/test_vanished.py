"""What vanished from the settings: ``penstock check`` says so, ``penstock accounts remove`` lets an account go."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from operators.rows import event
from shared.store import known_accounts
from shared.store.postgres import Connection, connect_once


ACCOUNT = """
[[imin.accounts]]
name = "{name}"
webhook_keys = ["to-{name}"]
api_key = "api-{name}"
base_url = "http://127.0.0.1:1"
"""


@pytest.fixture
def config(store: Any, tmp_path: Path) -> Path:
    """Two accounts were in force, the file has one of them."""
    file = tmp_path / "penstock.toml"
    file.write_text(ACCOUNT.format(name="here"))
    for name in ("here", "gone"):
        store.rows("INSERT INTO known_accounts (provider, account) VALUES ('imin', $1) RETURNING account", name)
    return file


def fixes(result: Any) -> dict[str, str]:
    """Item -> sentence of what needs mending."""
    return {line["item"]: line["sentence"] for line in result.lines if line["level"] == "fix"}


def test_check_names_accounts_that_are_not_in_the_file_any_more(penstock: Any, config: Path) -> None:
    """With both ways out; not where the file says that what it lacks is removed."""
    found = fixes(penstock("check", "--json"))
    assert "penstock accounts remove imin/gone" in found["imin gone"]
    assert "put it back" in found["imin gone"]
    config.unlink()
    assert {"imin gone", "imin here"} <= set(fixes(penstock("check", "--json")))
    config.write_text(ACCOUNT.format(name="here") + '[settings]\nremoval = "file"\n')
    assert "imin gone" not in fixes(penstock("check", "--json"))


def test_check_says_what_the_relay_says_of_its_settings(penstock: Any, config: Path, store: Any) -> None:
    """Also what is no account; a file that is not valid now has its own finding."""
    store.rows("INSERT INTO settings_trouble (said) VALUES ('penstock.toml no longer has [retention]') RETURNING said")
    assert "no longer has [retention]" in fixes(penstock("check", "--json"))["settings in force"]
    config.write_text("no toml")
    found = fixes(penstock("check", "--json"))
    assert "settings in force" not in found
    assert "penstock.toml" in found["settings"]


def test_check_advises_to_say_removal_last(penstock: Any, config: Path) -> None:
    """A file that says it first says it also when it was cut."""
    config.write_text('[settings]\nremoval = "file"\n' + ACCOUNT.format(name="here"))
    advice = [line["sentence"] for line in penstock("check", "--json").lines if line["level"] == "advice"]
    assert any("[settings] at its end" in sentence for sentence in advice)


def test_an_account_of_the_file_is_not_removed(penstock: Any, config: Path, store: Any) -> None:
    """The file says otherwise, and it would come back at once."""
    done = penstock("accounts", "remove", "imin/here")
    assert (1, True) == (done.status, f"{config.name} still has imin/here" in done.errors)
    assert not store.rows("SELECT FROM known_accounts WHERE removed_at IS NOT NULL")


def test_an_account_that_vanished_is_removed(penstock: Any, config: Path, store: Any) -> None:
    """Once and again, whether there is a file or not."""
    assert [{"provider": "imin", "account": "gone", "unfinished": 0}] == penstock(
        "accounts", "remove", "imin/gone", "--json"
    ).lines
    config.unlink()
    done = penstock("accounts", "remove", "imin/here")
    assert (0, True) == (done.status, "imin/here is removed" in done.errors)
    assert 2 == len(store.rows("SELECT FROM known_accounts WHERE removed_at IS NOT NULL"))
    assert 0 == penstock("accounts", "remove", "imin/here").status


def test_work_that_waits_wants_force(penstock: Any, config: Path, store: Any) -> None:
    """It is counted, and would be parked."""
    store.run(event(account="gone", state="received"))
    done = penstock("accounts", "remove", "imin/gone")
    assert (1, True) == (done.status, "1 events of imin/gone are not finished" in done.errors)
    assert not store.rows("SELECT FROM known_accounts WHERE removed_at IS NOT NULL")
    assert 0 == penstock("accounts", "remove", "imin/gone", "--force").status
    assert store.rows("SELECT FROM known_accounts WHERE removed_at IS NOT NULL")
    assert config.exists()


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("imin/nobody", 1, "nobody knows an account imin/nobody"),
        ("imin", 2, "PROVIDER/ACCOUNT"),
        ("imin/", 2, "PROVIDER/ACCOUNT"),
        ("nobody/main", 2, "there is no provider nobody"),
    ],
)
def test_what_is_not_an_account_is_refused(penstock: Any, name: str, status: int, said: str) -> None:
    """With a sentence."""
    done = penstock("accounts", "remove", name)
    assert (status, True) == (done.status, said in " ".join(done.errors.split()))


def test_an_account_that_is_noted_again_is_there_again(store: Any) -> None:
    """One that was removed after the file was read is not."""
    account = ("imin", "back")
    asyncio.run(_do(store, lambda connection: known_accounts.remove(connection, account)))
    before = store.rows("SELECT now() - interval '1 minute' AS at")[0]["at"]
    asyncio.run(_do(store, lambda connection: known_accounts.note(connection, [account], before)))
    assert store.rows("SELECT FROM known_accounts WHERE removed_at IS NOT NULL")
    after = store.rows("SELECT now() AS at")[0]["at"]
    asyncio.run(_do(store, lambda connection: known_accounts.note(connection, [account], after)))
    assert not store.rows("SELECT FROM known_accounts WHERE removed_at IS NOT NULL")


async def _do(store: Any, work: Callable[[Connection], Awaitable[None]]) -> None:
    connection = await connect_once(store.url)
    try:
        await work(connection)
    finally:
        await connection.close()
