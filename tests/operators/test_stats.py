"""``penstock stats`` and ``accounts list``."""

from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import redis as redis_client

from operators.rows import NOW, calls, event, fetch
from ops.cli.choices import EventState
from ops.spooled import AGAIN
from shared.queue import queue_of
from shared.spool import ASIDE, SPOOL
from shared.store.schema import EVENT_STATES, FETCH_STATES


PROVIDERS = {"imin", "magicline", "paybook", "authenteq"}
NOWHERE = "redis://127.0.0.1:1/0"
ACCOUNTS = """
[[imin.accounts]]
name = "main"
webhook_keys = ["webhook-key-of-imin"]
api_key = "api-key-of-imin"
base_url = "https://book.imin.co"

[[magicline.accounts]]
name = "berlin"
webhook_keys = ["webhook-key-of-berlin"]
api_key = "api-key-of-berlin"
base_url = "https://acme.open-api.magicline.com"
"""


def test_the_states_that_can_be_typed_are_those_of_the_schema() -> None:
    """``--state`` takes every state and no other."""
    assert EVENT_STATES == get_args(EventState)


def test_every_provider_has_a_line_with_every_state(store: Any, penstock: Any, redis: Any) -> None:
    """Counts follow inserts, updates and deletes; what has nothing is 0, and null where there is nothing to say."""
    store.run(
        *(event(state="done") for _ in range(3)),
        event(state="received"),
        event(state="received", account="second"),
        "UPDATE events SET state = 'processing' WHERE account = 'second'",
        "UPDATE events SET state = 'failed' WHERE account = 'second'",
        event(state="parked", account="third"),
        "DELETE FROM events WHERE account = 'third'",
        "UPDATE events SET received_at = now() - interval '90 seconds' WHERE state = 'received'",
        fetch("a"),
        fetch("b", state="waiting"),
        calls("imin", 1),
        calls("imin", 1),
    )
    with redis_client.Redis.from_url(redis.url) as client:
        client.lpush(queue_of("imin"), *range(7))
        try:
            result = penstock("stats", "--json")
        finally:
            client.delete(queue_of("imin"))
    rows = {row["provider"]: row for row in result.lines}
    assert (0, "") == (result.status, result.errors)
    assert PROVIDERS == set(rows)
    imin = rows["imin"]
    assert [
        "provider",
        "events",
        "fetches",
        "oldest_due_seconds",
        "queue_length",
        "api_calls",
        "events_per_call",
    ] == list(imin)[:7]
    assert {"events": 0, "set_aside": 0} == imin["spool"]
    imin = {name: imin[name] for name in list(imin)[:7]}
    assert 90 <= imin.pop("oldest_due_seconds") < 120
    assert {
        "provider": "imin",
        "events": {**dict.fromkeys(EVENT_STATES, 0), "done": 3, "received": 1, "failed": 1},
        "fetches": {**dict.fromkeys(FETCH_STATES, 0), "done": 1, "waiting": 1},
        "queue_length": 7,
        "api_calls": 2,
        "events_per_call": 1.5,
    } == imin
    assert {
        "provider": "paybook",
        "events": dict.fromkeys(EVENT_STATES, 0),
        "fetches": dict.fromkeys(FETCH_STATES, 0),
        "oldest_due_seconds": None,
        "queue_length": 0,
        "api_calls": 0,
        "events_per_call": None,
    }.items() <= rows["paybook"].items()


def test_without_redis_only_the_queue_lengths_are_missing(store: Any, penstock: Any) -> None:
    """The counts are from Postgres and stay."""
    store.run(event(state="done"))
    rows = penstock("stats", "--json", PENSTOCK_REDIS_URL=NOWHERE).lines
    assert [(None, None)] * 4 == [(row["queue_length"], row["spool"]) for row in rows]
    assert 1 == next(row for row in rows if row["provider"] == "imin")["events"]["done"]


@pytest.mark.usefixtures("store")
def test_the_spool_is_told_with_what_to_do(penstock: Any, redis: Any) -> None:
    """What waits there and what was set aside shows, and the advised command lets the relay try the latter again."""
    with redis_client.Redis.from_url(redis.url) as client:
        client.xadd(SPOOL, {"event-1": b"x"})
        client.xadd(ASIDE, {"event-1": b"y", "reason": b"it is not an event"})
        client.xadd(ASIDE, {"event-1": b"z", "reason": b"it is not an event"})
        try:
            assert {"events": 1, "set_aside": 2} == penstock("stats", "--json").lines[0]["spool"]
            told = penstock("stats").errors
            assert "1 events wait in the spool" in told
            assert "2 entries of the spool could not be kept" in told
            assert AGAIN in told
            assert client.eval(AGAIN, 2, ASIDE, SPOOL) is None
            client.xtrim(SPOOL, maxlen=0)
            client.eval(AGAIN, 2, ASIDE, SPOOL)
            assert (2, 0) == (client.xlen(SPOOL), client.xlen(ASIDE))
        finally:
            client.delete(SPOOL, ASIDE)


def test_people_get_a_table_of_counts(store: Any, penstock: Any) -> None:
    """A line a provider under the names of the states."""
    store.run(*(event(state="parked") for _ in range(3)))
    head, _, *lines = penstock("stats").output.decode().splitlines()
    assert "parked" in head
    assert PROVIDERS == {line.split()[0] for line in lines if line.strip()}


def test_accounts_are_listed_with_the_keys_of_the_contract(store: Any, penstock: Any, tmp_path: Path) -> None:
    """Each configured account, with its last delivery (what reconciliation made is none) and its budget."""
    (tmp_path / "penstock.toml").write_text(ACCOUNTS)
    store.run(
        event(received_at=NOW - timedelta(hours=1)),
        event(),
        event(account="gone"),
        event(received_at=NOW + timedelta(hours=1), reconciled=True),
    )
    result = penstock("accounts", "list", "--json")
    assert (0, "") == (result.status, result.errors)
    assert [
        {
            "provider": "imin",
            "account": "main",
            "last_event_at": "2026-05-01T12:00:00Z",
            "circuit": "closed",
            "budget_used": 0,
            "budget_limit": None,
            "next_call_at": None,
        },
        {
            "provider": "magicline",
            "account": "berlin",
            "last_event_at": None,
            "circuit": "closed",
            "budget_used": 0,
            "budget_limit": None,
            "next_call_at": None,
        },
    ] == result.lines
    assert ["berlin"] == [
        row["account"] for row in penstock("accounts", "list", "--provider", "magicline", "--json").lines
    ]


def test_without_redis_accounts_are_listed_without_their_budgets(penstock: Any, tmp_path: Path) -> None:
    """What Redis knows is null; the rest is there, and no deadline is waited for twice."""
    (tmp_path / "penstock.toml").write_text(ACCOUNTS)
    rows = penstock("accounts", "list", "--json", PENSTOCK_REDIS_URL=NOWHERE).lines
    assert [("main", None, None), ("berlin", None, None)] == [
        (row["account"], row["circuit"], row["budget_used"]) for row in rows
    ]
