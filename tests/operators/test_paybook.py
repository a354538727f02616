"""``penstock paybook webhooks``: list, create and delete the registrations at Paybook's API (the lab's)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.lab.process import Lab, running_lab


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


def _account(lab: Lab) -> str:
    return next(account.name for account in lab.accounts() if account.provider == "paybook")


def test_a_registration_is_created_listed_and_deleted(lab: Lab, penstock: Any) -> None:
    """The created one appears in the list with its failures and whether it is disabled, and is gone when deleted."""
    name, url = _account(lab), "https://hooks.example.com/webhooks/paybook/some-token-of-ours"
    before = {row["id_webhook"] for row in penstock("paybook", "webhooks", "list", "--json").lines}
    created = penstock(
        "paybook", "webhooks", "create", "--account", name, "--url", url, "--event", "refresh", "--delay", 5, "--json"
    )
    (made,) = created.lines
    assert (0, "") == (created.status, created.errors)
    assert (name, url, ["refresh"], 5) == (made["account"], made["url"], made["events"], made["delay"])
    listed = {
        row["id_webhook"]: row for row in penstock("paybook", "webhooks", "list", "--account", name, "--json").lines
    }
    assert {made["id_webhook"]} == set(listed) - before
    assert {"ct_failed", "is_disabled"} <= set(listed[made["id_webhook"]])
    assert url in penstock("paybook", "webhooks", "list").output.decode()
    deleted = penstock("paybook", "webhooks", "delete", made["id_webhook"], "--account", name)
    assert (0, f"The webhook {made['id_webhook']} is deleted.\n") == (deleted.status, deleted.errors)
    assert made["id_webhook"] not in {
        row["id_webhook"] for row in penstock("paybook", "webhooks", "list", "--json").lines
    }


def test_what_is_registered_already_is_not_registered_again(lab: Lab, penstock: Any) -> None:
    """Typed twice, it says which one stands; with other events it registers, and says what stands beside it."""
    url = "https://hooks.example.com/webhooks/paybook/typed-twice"
    create = ("paybook", "webhooks", "create", "--account", _account(lab), "--url", url, "--json")
    (first,) = penstock(*create).lines
    again = penstock(*create)
    (stands,) = again.lines
    assert (0, first["id_webhook"]) == (again.status, stands["id_webhook"])
    assert f"This URL is registered already, as {first['id_webhook']}.\n" == again.errors

    other = penstock(*create, "--event", "refresh")

    (second,) = other.lines
    assert first["id_webhook"] != second["id_webhook"]
    assert other.errors.startswith(f"{first['id_webhook']} of the same URL stands beside it")
    registered = [row for row in penstock("paybook", "webhooks", "list", "--json").lines if row["url"] == url]
    assert {first["id_webhook"], second["id_webhook"]} == {row["id_webhook"] for row in registered}
    for row in registered:
        penstock("paybook", "webhooks", "delete", row["id_webhook"], "--account", _account(lab))


def test_calls_carry_the_api_key_alone(lab: Lab, penstock: Any) -> None:
    """``Authorization: api_key api_key=K``, on behalf of no user: registrations belong to the key."""
    penstock("paybook", "webhooks", "list", "--account", _account(lab))
    assert 0 < len(lab.calls("paybook", "/v1/webhooks")["calls"])


@pytest.mark.usefixtures("lab")
def test_an_account_that_is_not_there_is_a_sentence_with_those_that_are(penstock: Any) -> None:
    """Exit status 1."""
    result = penstock("paybook", "webhooks", "list", "--account", "nobody")
    assert 1 == result.status
    assert result.errors.startswith("penstock: there is no Paybook account nobody; configured are ")


def test_a_refused_call_is_a_sentence(lab: Lab, penstock: Any) -> None:
    """An id that Paybook does not know, and one that no path may hold."""
    for webhook in ("000000000000000000000000", "../users"):
        result = penstock("paybook", "webhooks", "delete", webhook, "--account", _account(lab))
        assert (1, 1) == (result.status, result.errors.count("\n"))
        assert result.errors.startswith("penstock: ")


def test_a_paybook_that_does_not_answer_is_a_sentence(penstock: Any, tmp_path: Path) -> None:
    """It says which host was tried, and never the key."""
    (tmp_path / "penstock.toml").write_text(
        '[[paybook.accounts]]\nname = "main"\nwebhook_tokens = ["token-of-our-webhook"]\n'
        'api_key = "key-of-the-api"\nbase_url = "http://127.0.0.1:1"\n'
    )
    result = penstock("paybook", "webhooks", "list")
    assert 1 == result.status
    assert result.errors.startswith("penstock: Paybook does not answer at http://127.0.0.1:1: ")
    assert "key-of-the-api" not in result.errors
