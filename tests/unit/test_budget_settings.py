"""The settings of budgets, circuits and coalescing in ``penstock.toml``."""

from pathlib import Path

import pytest

from shared.budgets import in_force, room
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.providers.interface import Limit


ACCOUNT = """
[[magicline.accounts]]
name = "berlin"
webhook_keys = ["hook"]
api_key = "api"
base_url = "https://acme.open-api.magicline.com"
"""
PUBLISHED = Limit("GET /v1/customers/{customerId}", 1000, 60.0, 60.0)


def test_a_budget_of_the_settings_replaces_the_published_limit_and_keeps_its_penalty(tmp_path: Path) -> None:
    """Calls, seconds and the kind of window; the penalty only where it is given. The scope stays the provider's."""
    path = tmp_path / "penstock.toml"
    path.write_text(ACCOUNT + 'budget = { calls = 10, seconds = 5, window = "fixed" }\n')
    account = read_configuration(path).accounts["magicline"]["berlin"]

    assert PUBLISHED._replace(calls=10, seconds=5.0, window="fixed") == in_force(account, PUBLISHED)
    assert PUBLISHED == in_force(account.model_copy(update={"budget": None}), PUBLISHED)


def test_debounce_is_a_providers_own_and_none_unless_it_is_set(tmp_path: Path) -> None:
    """The others are asked at once."""
    path = tmp_path / "penstock.toml"
    path.write_text("[magicline]\ndebounce_seconds = 1.5\n" + ACCOUNT)

    debounce = read_configuration(path).debounce

    assert (1.5, {0.0}) == (debounce.pop("magicline"), set(debounce.values()))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[magicline]\ndebounce_seconds = -1\n", r"\[magicline\] debounce_seconds: "),
        ("[magicline]\ndebounce = 1\n", r"\[magicline\] debounce: there is no such field; known are accounts, deb"),
        ("[following_up.shares]\nbackground = 0\n", r"\[following_up\] shares.background: "),
        ("[following_up]\nprobe_seconds = 0\n", r"\[following_up\] probe_seconds: "),
        (ACCOUNT + "budget = { calls = 1, window = 'hourly' }\n", r"berlin budget.window: "),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    """At start, with a sentence that names the setting."""
    path = tmp_path / "penstock.toml"
    path.write_text(text)

    with pytest.raises(SettingsError, match=said):
        read_configuration(path)


def test_a_share_is_never_nothing() -> None:
    """A budget of one call is used by replays too, once live events leave it; no limit has no shares."""
    assert [1, 1, 500, 0] == [room(1, 0.5), room(2, 0.5), room(1000, 0.5), room(0, 0.5)]
