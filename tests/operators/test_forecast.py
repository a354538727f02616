"""When what waits will be done: in ``stats`` for accounts, in ``events show`` for one event."""

from pathlib import Path

import pytest

from operators.conftest import Penstock, Store
from operators.rows import event, fetch, link, new_id


ACCOUNTS = """
[[magicline.accounts]]
name = "studio-berlin"
webhook_keys = ["hook-berlin"]
api_key = "api-berlin"
base_url = "http://127.0.0.1:9"

[[imin.accounts]]
name = "main"
webhook_keys = ["hook-imin"]
api_key = "api-imin"
base_url = "http://127.0.0.1:9"

[[paybook.accounts]]
name = "main"
webhook_tokens = ["0123456789abcdef"]
api_key = "api-paybook"
base_url = "http://127.0.0.1:9"
budget = { calls = 10, seconds = 86400 }
"""


@pytest.fixture
def penstock(penstock: Penstock, tmp_path: Path) -> Penstock:
    """``penstock`` with accounts: Magicline's published limit, none for imin, ten calls a day for Paybook."""
    config = tmp_path / "accounts.toml"
    config.write_text(ACCOUNTS)

    def run(*arguments: str, **environment: str) -> object:
        return penstock(*arguments, PENSTOCK_CONFIG=str(config), **environment)

    return run  # type: ignore[return-value]


def waiting(provider: str, account: str, purpose: str, calls: int, *, background: bool = False) -> list[object]:
    """So many calls that wait."""
    return [
        fetch(
            f"{purpose}-{number}-{background}",
            state="pending",
            provider=provider,
            account=account,
            purpose=purpose,
            path=f"/{purpose}/{number}",
            background=background,
        )
        for number in range(calls)
    ]


def test_each_account_with_calls_to_make_has_a_forecast(penstock: Penstock, store: Store) -> None:
    """By the endpoint that takes longest; without a limit nobody knows; who has nothing to do is not there."""
    store.run(
        *waiting("magicline", "studio-berlin", "customer", 1100),
        *waiting("magicline", "studio-berlin", "contracts", 10),
        *waiting("imin", "main", "customer-account", 3),
    )

    rows = {row["provider"]: row["forecast"] for row in penstock("stats", "--json").lines}

    (magicline,) = rows["magicline"]
    (imin,) = rows["imin"]
    assert ("studio-berlin", 1110, 6.0) == (magicline["account"], magicline["calls"], magicline["seconds"])
    assert "1,100 calls at 1,000/min (GET customer) take 6 s" == magicline["detail"]
    assert magicline["done_at"] is not None
    assert (3, None, None) == (imin["calls"], imin["seconds"], imin["done_at"])
    assert [] == rows["paybook"]


def test_replays_take_as_long_as_their_share_of_the_budget_lets_them(penstock: Penstock, store: Store) -> None:
    """Half of it is reserved for live events."""
    store.run(*waiting("magicline", "studio-berlin", "customer", 1000, background=True))

    rows = {row["provider"]: row["forecast"] for row in penstock("stats", "--json").lines}

    assert 60.0 == rows["magicline"][0]["seconds"]


def test_people_see_the_forecast_below_the_counts(penstock: Penstock, store: Store) -> None:
    """A table of its own."""
    store.run(*waiting("paybook", "main", "transactions", 30))

    shown = penstock("stats").output.decode()

    assert "30 calls at 10/day (GET transactions) take 48.0 h" in shown or "take 2.0 days" in shown


def test_an_event_with_more_calls_than_the_day_allows_says_so(penstock: Penstock, store: Store) -> None:
    """At once, with the forecast; an event that waits for nothing has none."""
    big, done = new_id(), new_id()
    store.run(
        event(big, provider="paybook", state="processing"),
        event(done, provider="paybook"),
        *waiting("paybook", "main", "transactions", 50),
        *(link(big, number) for number in range(1, 51)),
    )

    (shown,) = penstock("events", "show", str(big), "--json").lines
    told = penstock("events", "show", str(big)).output.decode()
    (nothing,) = penstock("events", "show", str(done), "--json").lines

    said = "its 50 calls are more than a day allows (10 at 10/day (GET transactions)): they take 4.0 days"
    assert (50, said) == (shown["forecast"]["calls"], shown["forecast"]["detail"])
    assert shown["forecast"]["done_at"] is not None
    assert said in told
    assert nothing["forecast"] is None


def test_a_forecast_needs_no_redis_and_no_settings(penstock: Penstock, store: Store) -> None:
    """Without Redis it is an estimate; with settings that do not validate there is none."""
    store.run(*waiting("magicline", "studio-berlin", "customer", 1060))

    rows = {
        row["provider"]: row["forecast"]
        for row in penstock("stats", "--json", PENSTOCK_REDIS_URL="redis://127.0.0.1:1/0").lines
    }

    assert 3.6 == pytest.approx(rows["magicline"][0]["seconds"])
