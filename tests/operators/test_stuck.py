"""What stands still is told, with what to do: by `penstock check`, and by the console's Overview and attention page."""

from typing import Any
from uuid import uuid4

import pytest
from uuid_utils.compat import uuid7

from operators.conftest import Penstock, Store


def relay(
    store: Store, duty: str = "queue-due", *, succeeded: float = 1, told: float = 1, error: str | None = None
) -> None:
    """A relay told this of one of its duties."""
    store.run(
        (
            """
            INSERT INTO relay_duties (duty, succeeded_at, told_at, patience_seconds, error)
            VALUES ($1, now() - make_interval(secs => $2), now() - make_interval(secs => $3), 120, $4)
            """,
            duty,
            succeeded,
            told,
            error,
        )
    )


def worker(store: Store, name: str = "worker-imin-7", failing: float | None = None) -> None:
    """A worker process that lives, and has perhaps only failed for so many seconds."""
    store.run(
        (
            """
            INSERT INTO worker_processes (id, name, failing_since, error, beat_at)
            VALUES ($1, $2, now() - make_interval(secs => $3), $4, now() + interval '1 hour')
            """,
            uuid4(),
            name,
            failing,
            "KeyError: 'purpose'" if failing else None,
        )
    )


def event(store: Store, minutes: float, account: str = "main", *, background: bool = False) -> str:
    """An event that came in so many minutes ago, and that nobody planned since."""
    identity = uuid7()
    store.run(
        (
            """
            INSERT INTO events (id, provider, account, durability, content_type, headers, body_bytes, body_sha256,
                                received_at, background)
            VALUES ($1, 'imin', $2, 'postgres', '', '[]', 0, '', now() - make_interval(secs => $3), $4)
            """,
            identity,
            account,
            60 * minutes,
            background,
        )
    )
    return str(identity)


def told(result: Any, *items: str) -> list[tuple[str, str]]:
    """Level and sentence of the lines about these."""
    return [(line["level"], line["sentence"]) for line in result.lines if line["item"] in items]


def test_a_duty_of_the_relay_that_does_not_succeed_is_told(penstock: Penstock, store: Store) -> None:
    """Which, for how long, why, and what to do; the others are as they should be."""
    relay(store)
    relay(store, "drain-spool", succeeded=600, error="took too long: TimeoutError")
    ((level, sentence),) = told(penstock("check", "--json"), "relay")
    assert "fix" == level
    assert sentence.startswith(
        "it has not moved what was spooled into Postgres for 10 min (took too long: TimeoutError)"
    )


@pytest.mark.parametrize("ever", [True, False])
def test_workers_without_a_relay_are_told(penstock: Penstock, store: Store, *, ever: bool) -> None:
    """It told nothing of itself for a while, or never."""
    worker(store)
    if ever:
        relay(store, told=600)
    ((level, sentence),) = told(penstock("check", "--json"), "relay")
    assert "fix" == level
    assert "start `penstock relay`" in sentence


def test_a_worker_that_only_fails_is_told(penstock: Penstock, store: Store) -> None:
    """With its last error; one that failed a moment ago is not."""
    relay(store)
    worker(store)
    worker(store, "worker-imin-8", failing=20)
    worker(store, "worker-imin-9", failing=900)
    result = penstock("check", "--json")
    assert 1 == result.status
    assert [] == told(result, "worker worker-imin-7", "worker worker-imin-8")
    ((level, sentence),) = told(result, "worker worker-imin-9")
    assert "fix" == level
    assert "only failed for 15 min, last with KeyError: 'purpose'" in sentence


def test_an_event_that_nobody_plans_is_told(penstock: Penstock, store: Store) -> None:
    """By its id, and whether workers run, only fail, or have something else in their way."""
    relay(store)
    stands = event(store, 25)
    event(store, 1)
    ((level, sentence),) = told(penstock("check", "--json"), "imin main")
    assert "fix" == level
    assert f"event {stands} has been received for 25 min and nobody plans it: no worker of imin runs" in sentence

    worker(store, failing=900)
    assert "every worker of imin only fails" in told(penstock("check", "--json"), "imin main")[0][1]
    worker(store, "worker-imin-paybook-8")
    assert f"`penstock events show {stands}`" in told(penstock("check", "--json"), "imin main")[0][1]


def test_an_event_gets_time_and_a_replay_is_advice(penstock: Penstock, store: Store, tmp_path: Any) -> None:
    """Ten minutes unless the settings say otherwise; a bulk replay may take its time."""
    relay(store)
    event(store, 8)
    event(store, 500, "replayed", background=True)
    result = penstock("check", "--json")
    assert [] == told(result, "imin main")
    assert ["advice"] == [level for level, _ in told(result, "imin replayed")]
    (tmp_path / "penstock.toml").write_text("[watch]\nstuck_minutes = 1000\n")
    assert [] == told(penstock("check", "--json"), "imin replayed")


def test_an_installation_that_does_not_run_is_not_stuck(penstock: Penstock, store: Store) -> None:
    """Check is run before a start too: what waits then is no fault."""
    relay(store, succeeded=90_000, told=90_000)
    event(store, 1500)
    assert [] == told(penstock("check", "--json"), "relay", "imin main")
