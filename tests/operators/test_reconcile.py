"""``penstock reconcile`` and ``penstock paybook webhooks watch``: what an operator types and reads."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operators.rows import record
from ops.lab.process import Lab, running_lab


@pytest.fixture(scope="module")
def running() -> Iterator[Lab]:
    """One lab for these tests."""
    with running_lab(seed=9) as lab:
        yield lab


@pytest.fixture
def lab(running: Lab, tmp_path: Path) -> Lab:
    """The lab as new, and its accounts in this test's penstock.toml."""
    running.reset()
    (tmp_path / "penstock.toml").write_text(running.config_toml({"base_seconds": 0.01, "max_seconds": 0.05}))
    return running


# ── reconcile ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["acme"], 2, "there is no provider acme; known are imin, magicline, paybook, authenteq"),
        (["imin", "--since", "yesterday"], 2, "write a time such as 2026-05-01T12:00Z, or an age such as 15m"),
        (["imin", "--since", "2999-01-01"], 2, "--since lies in the future"),
        (["magicline", "--account", "nobody"], 1, "magicline has no account nobody; configured are studio-berlin, "),
    ],
)
@pytest.mark.usefixtures("lab")
def test_bad_input_is_refused_with_a_sentence(penstock: Any, arguments: list[str], status: int, says: str) -> None:
    """Before any call is made."""
    result = penstock("reconcile", *arguments)
    assert status == result.status
    assert says in " ".join(result.errors.replace("│", " ").split())


def test_a_provider_without_an_account_is_a_sentence(penstock: Any) -> None:
    """It names the file."""
    result = penstock("reconcile", "imin")
    assert (1, 1) == (result.status, result.errors.count("\n"))
    assert result.errors.startswith("penstock: no account of imin is configured in ")


def test_a_run_prints_its_counts_and_what_it_cannot_see(lab: Lab, store: Any, penstock: Any) -> None:
    """A table for people, with the same counts as the objects for programs."""
    store.run(record("c-7", '{"identifier": "c-7"}'), record("c-0", '{"identifier": "c-0"}'))

    dry = penstock("reconcile", "imin", "--dry-run")
    (row,) = penstock("reconcile", "imin", "--json").lines

    assert 0 == dry.status
    assert "main: nothing was changed (--dry-run).\n" in dry.errors
    assert "imin has no list, one never told of stays unseen" in dry.errors
    assert (2, 2, 2, True) == (row["looked_at"], row["differing"] + row["missing"], row["repaired"], row["finished"])
    assert "main" in dry.output.decode()
    (event, _) = penstock("events", "list", "--json").lines
    assert ["reconciled"] == event["event_types"]
    assert lab.calls("imin")["total"] == 4


def test_a_walk_that_waits_for_a_budget_says_for_which_and_how_long(
    lab: Lab, store: Any, penstock: Any, tmp_path: Path
) -> None:
    """Also where standard error is no terminal: a long wait is told as it begins, and standard output has no word."""
    limited = lab.config_toml().replace("base_url =", "budget = { calls = 2, seconds = 12 }\nbase_url =")
    (tmp_path / "penstock.toml").write_text(limited)
    store.run(record("c-7"), record("c-0"))

    done = penstock("reconcile", "imin", "--dry-run", "--json")

    assert re.search(
        r"^imin main, .*; waits for the budget of main, GET .*next call in \d+\.\d s$", done.errors, re.MULTILINE
    )
    assert [True] == [row["finished"] for row in done.lines]


@pytest.mark.usefixtures("lab")
def test_a_walk_that_cannot_end_says_why_and_fails(penstock: Any, tmp_path: Path, store: Any) -> None:
    """An API that does not answer; exit status 1."""
    (tmp_path / "penstock.toml").write_text(
        '[retry]\nbase_seconds = 0.01\nmax_seconds = 0.02\n\n[[imin.accounts]]\nname = "main"\n'
        'webhook_keys = ["hook"]\n'
        'api_key = "api"\nbase_url = "http://127.0.0.1:1"\n'
    )
    store.run(record("c-7"))
    result = penstock("reconcile", "imin", "--json")
    (row,) = result.lines
    assert (1, False) == (result.status, row["finished"])
    assert row["stopped"].startswith("GET /api/v2/customer-accounts/c-7: ")


# ── registrations ─────────────────────────────────────────────────────────────────────────────────────────────────


def _registered(penstock: Any) -> dict[str, Any]:
    return {row["id_webhook"]: row for row in penstock("paybook", "webhooks", "list", "--json").lines}


def _watched(penstock: Any) -> tuple[list[str], list[str]]:
    (row,) = penstock("paybook", "webhooks", "watch", "--json").lines
    return row["warnings"], row["done"]


def test_growing_failures_are_told_once(lab: Lab, penstock: Any) -> None:
    """What was told is known at the next look."""
    url = "https://elsewhere.example.com/hook"
    (made,) = penstock("paybook", "webhooks", "create", "--account", "main", "--url", url, "--json").lines
    which = made["id_webhook"]
    assert ([], []) == _watched(penstock)
    lab.change("paybook", "webhook", which, ct_failed=3)

    warning = f"webhook {which} has failed 3 times, 3 of them since the last look"
    assert ([warning], []) == _watched(penstock)
    assert ([], []) == _watched(penstock)
    penstock("paybook", "webhooks", "delete", which, "--account", "main")


def test_a_disabled_registration_is_made_anew_with_header_and_token(lab: Lab, penstock: Any, tmp_path: Path) -> None:
    """First the new one, then the old one goes; another's registration stays, and a second look does nothing."""
    keys = next(each for each in lab.accounts() if each.provider == "paybook")
    toml = (tmp_path / "penstock.toml").read_text()
    mending = 'registration = { ingress = "https://hooks.example.com", again = true }'
    (tmp_path / "penstock.toml").write_text(toml.replace("webhook_tokens", f"{mending}\nwebhook_tokens"))
    other = "https://elsewhere.example.com/hook"
    (theirs,) = penstock("paybook", "webhooks", "create", "--account", "main", "--url", other, "--json").lines

    _, done = _watched(penstock)
    (which,) = set(_registered(penstock)) - {theirs["id_webhook"]}
    assert [f"registered webhook {which}"] == done
    shown = lab.client.get(f"/world/paybook/webhook/{which}").json()
    assert f"https://hooks.example.com/webhooks/paybook/{keys.webhook_key}" == shown["url"]
    assert dict([keys.header or ("", "")]) == shown["headers"]

    lab.change("paybook", "webhook", which, is_disabled=1, ct_failed=1001)
    warnings, done = _watched(penstock)
    (again,) = set(_registered(penstock)) - {theirs["id_webhook"]}
    assert [f"webhook {which} is disabled after 1001 failures"] == warnings
    assert [f"registered webhook {again}", f"removed the disabled webhook {which}"] == done
    assert ([], []) == _watched(penstock)


# ── silence ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("lab")
def test_an_unusual_silence_is_told_by_stats_and_check(store: Any, penstock: Any) -> None:
    """With the time of the last event, and what to do."""
    store.run(
        """
        INSERT INTO rhythms (provider, account, spans, weeks, hour, in_hour, whole, looked_at, last_event_at)
        SELECT 'imin', name, array_fill(spans::real, ARRAY[168]), array_fill(3::smallint, ARRAY[168]), now(), 0, true,
               now(), now() - interval '2 hours'
        FROM (VALUES ('main', 12), ('removed', 12)) AS t (name, spans)
        """
    )

    silent = {row["provider"]: row["silent"] for row in penstock("stats", "--json").lines}
    assert ["main"] == [each["account"] for each in silent["imin"]]
    assert 24 == round(silent["imin"][0]["expected_spans"])
    assert silent["imin"][0]["last_event_at"]
    assert [] == silent["magicline"]
    assert "imin main is silent for longer than it should be: its last event came at " in penstock("stats").errors
    checked = {row["item"]: row for row in penstock("check", "--json").lines if "silent" in row["sentence"]}
    assert "penstock reconcile imin --account main" in checked["imin main"]["sentence"]
