"""``penstock events replay``: which rows change, which are left alone, and what the operator is told."""

import getpass
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from operators.rows import NOW, event, fetch, link, new_id
from shared.sealing import Keys, generate_key


WORKER = UUID(int=7)


def _columns(store: Any, event_id: UUID) -> dict[str, Any]:
    (row,) = store.rows("SELECT * FROM events WHERE id = $1", event_id)
    return dict(row)


def test_a_failed_event_begins_anew_and_its_finished_calls_are_let_go(store: Any, penstock: Any) -> None:
    """Received again and due now; an open call stays linked, finished ones do not; the timeline says who and why."""
    event_id = new_id()
    store.run(
        event(
            event_id,
            state="failed",
            finished_at=NOW,
            token=4,
            duplicate_of=new_id(),
            error_reason="attempts-used-up",
            error_detail="why",
            queue_at=NOW + timedelta(days=9999),
        ),
        *(fetch(state, state=state) for state in ("done", "failed", "pending")),
        *(link(event_id, number) for number in (1, 2, 3)),
    )
    result = penstock("events", "replay", event_id, "--reason", "mapping fixed")
    assert (0, "1 event: is planned again from its kept body\n") == (result.status, result.errors)
    columns = _columns(store, event_id)
    assert "received" == columns["state"]
    cleared = ("claimed_by", "token", "finished_at", "error_reason", "error_detail", "duplicate_of")
    assert [None] * len(cleared) == [columns[name] for name in cleared]
    assert [(True,)] == [tuple(row) for row in store.rows("SELECT queue_at <= now() FROM events")]
    assert [3] == [row["fetch_id"] for row in store.rows("SELECT fetch_id FROM event_fetches")]
    assert [("replayed", f"mapping fixed (by {getpass.getuser()})")] == [
        (row["step"], row["detail"]) for row in store.rows("SELECT * FROM timeline")
    ]


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_a_reason_that_is_no_text_is_kept_as_far_as_it_is(store: Any, penstock: Any, command: str) -> None:
    """A terminal that is not UTF-8 gives bytes that no text holds (PEP 383): the work is done all the same."""
    event_id = new_id()
    store.run(event(event_id, state="failed", finished_at=NOW, error_reason="refused"))
    result = penstock("events", command, event_id, "--reason", "caf\udce9")
    assert 0 == result.status
    assert any("caf\ufffd" in row["detail"] for row in store.rows("SELECT detail FROM timeline"))


@pytest.mark.parametrize("state", ["received", "done", "duplicate", "parked"])
def test_events_that_nobody_works_on_are_replayed(store: Any, penstock: Any, state: str) -> None:
    """Also finished and parked ones."""
    event_id = new_id()
    store.run(event(event_id, state=state))
    assert 0 == penstock("events", "replay", event_id).status
    assert "received" == _columns(store, event_id)["state"]
    assert 1 == len(store.rows("SELECT FROM timeline"))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"state": "processing"}, "is being worked on at this moment"),
        ({"state": "received", "claimed_by": WORKER, "token": 3}, "is being worked on at this moment"),
        ({"state": "quarantined"}, "is in quarantine"),
    ],
)
def test_an_event_in_a_workers_hands_or_in_quarantine_is_left_alone(
    store: Any, penstock: Any, columns: dict[str, Any], sentence: str
) -> None:
    """Nothing changes, the operator is told, and the exit status is 1."""
    event_id = new_id()
    store.run(event(event_id, **columns))
    before = _columns(store, event_id)
    result = penstock("events", "replay", event_id)
    assert 1 == result.status
    assert sentence in result.errors
    assert before == _columns(store, event_id)
    assert [] == store.rows("SELECT FROM timeline")


def test_a_waiting_event_makes_its_waiting_calls_at_once(store: Any, penstock: Any) -> None:
    """Its open calls are due now with all attempts before them; the running and the finished one are left."""
    event_id, far = new_id(), NOW + timedelta(days=9999)
    store.run(
        event(event_id, state="waiting"),
        *(
            fetch(state, state=state, attempts=5, due_at=far, queue_at=far)
            for state in ("waiting", "pending", "running", "done")
        ),
        *(link(event_id, number) for number in (1, 2, 3, 4)),
        fetch("another's", state="waiting", attempts=5, due_at=far, queue_at=far),
    )
    result = penstock("events", "replay", event_id)
    assert 0 == result.status
    assert "its waiting calls are made now" in result.errors
    assert "waiting" == _columns(store, event_id)["state"]
    hurried = store.rows(
        "SELECT id FROM fetches WHERE attempts = 0 AND due_at <= now() AND queue_at <= now() ORDER BY id"
    )
    assert [1, 2] == [row["id"] for row in hurried]
    assert 4 == len(store.rows("SELECT FROM event_fetches"))
    assert 1 == len(store.rows("SELECT FROM timeline"))


def test_filters_select_together_and_a_dry_run_changes_nothing(store: Any, penstock: Any) -> None:
    """State, provider and time are all to be met; the dry run names exactly what the real one replays."""
    wanted = [new_id() for _ in range(3)]
    match = {"state": "parked", "provider": "paybook"}
    store.run(
        *(event(event_id, **match) for event_id in wanted),
        event(**{**match, "state": "failed"}),
        event(**{**match, "provider": "imin"}),
        event(**match, received_at=NOW - timedelta(hours=2)),
    )
    filters = ("--state", "parked", "--provider", "paybook", "--since", "2026-05-01T11:00Z")
    dry = penstock("events", "replay", *filters, "--dry-run", "--json")
    assert [
        {"id": str(event_id), "provider": "paybook", "account": "main", "state": "parked", "outcome": "replayed"}
        for event_id in wanted
    ] == dry.lines
    assert [] == store.rows("SELECT FROM events WHERE state = 'received'")
    assert [] == store.rows("SELECT FROM timeline")
    assert "3 events: " in penstock("events", "replay", *filters).errors
    received = store.rows("SELECT id FROM events WHERE state = 'received' ORDER BY id")
    assert wanted == [row["id"] for row in received]


def test_many_events_are_replayed_in_batches_each_once(store: Any, penstock: Any) -> None:
    """More than two batches' worth: every one of them, and one timeline entry each."""
    store.run("""
        INSERT INTO events (id, provider, account, state, durability, content_type, headers, body, body_bytes,
                            body_sha256)
        SELECT gen_random_uuid(), 'imin', 'main', 'failed', 'postgres', '', '[]', '', 0, ''
        FROM generate_series(1, 1201)
    """)
    result = penstock("events", "replay", "--state", "failed")
    assert (0, b"", "1,201 events: is planned again from its kept body\n") == result
    (row,) = store.rows("SELECT count(*), count(DISTINCT event_id) AS different FROM timeline")
    assert (1201, 1201) == tuple(row)
    assert [] == store.rows("SELECT FROM events WHERE state <> 'received'")


def test_an_unknown_id_stops_the_replay_of_all(store: Any, penstock: Any) -> None:
    """Exit status 1 with the id, and the events that do exist are as before."""
    known, unknown = new_id(), new_id()
    store.run(event(known, state="failed"))
    result = penstock("events", "replay", known, unknown)
    assert (1, f"penstock: no event has the id {unknown}; nothing was done\n") == (result.status, result.errors)
    assert "failed" == _columns(store, known)["state"]


@pytest.mark.parametrize("arguments", [(), ("--dry-run",), (str(UUID(int=1)), "--state", "failed")])
def test_a_replay_of_nothing_in_particular_or_by_both_ways_is_bad_usage(
    penstock: Any, arguments: tuple[str, ...]
) -> None:
    """Nobody replays everything by a slip of the hand."""
    assert 2 == penstock("events", "replay", *arguments).status


def test_a_replay_is_written_down_with_who_and_why_and_goes_on_when_broken_off(store: Any, penstock: Any) -> None:
    """An unfinished one of the same command goes on behind its place, for whoever types it; others begin anew."""
    ids = [new_id() for _ in range(4)]
    store.run(
        *(event(event_id, state="failed") for event_id in ids),
        (
            """
            INSERT INTO replays (what, asked, until, reason, who, position, counts)
            VALUES ('events', $1, now(), 'the API is back', 'ana', $2, '{"replayed": 2}')
            """,
            '{"state": "failed", "since": "30000d"}',
            f'"{ids[1]}"',
        ),
    )
    result = penstock("events", "replay", "--state", "failed", "--since", "30000d")
    assert "Going on with replay 1, which ana began" in result.errors
    assert ids[2:] == [row["id"] for row in store.rows("SELECT id FROM events WHERE state = 'received' ORDER BY id")]
    assert {"the API is back (by ana)"} == {row["detail"] for row in store.rows("SELECT detail FROM timeline")}
    penstock("events", "replay", "--state", "failed", "--since", "30000d", "--reason", "rest")
    newest, oldest = penstock("replays", "list", "--json").lines
    assert ({"replayed": 2}, {"replayed": 4}) == (newest["counts"], oldest["counts"])
    assert ("events", getpass.getuser(), "rest", {"state": "failed", "since": "30000d"}) == (
        newest["what"],
        newest["who"],
        newest["reason"],
        newest["asked"],
    )
    assert None not in {newest["finished_at"], oldest["finished_at"]}
    assert b"since 30000d, state failed" in penstock("replays", "list").output


def test_the_same_replay_is_not_begun_twice_at_once(store: Any, penstock: Any) -> None:
    """While another process has it, nothing is done; exit status 1."""
    store.run(event(state="failed"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, store.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert b"held\n" == other.stdout.readline()
        result = penstock("events", "replay", "--state", "failed")
        other.communicate(b"\n")
    assert (1, True) == (result.status, "the same replay is running at this moment" in result.errors)
    assert [] == store.rows("SELECT FROM events WHERE state = 'received'")
    assert 0 == penstock("events", "replay", "--state", "failed").status


HOLDING = """
import asyncio, sys
from shared.store.locking import alone
from shared.store.postgres import connect_once

async def hold():
    connection = await connect_once(sys.argv[1])
    async with alone(connection, "replay", "events", '{"state":"failed"}') as mine:
        print("held" if mine else "not held", flush=True)
        sys.stdin.readline()

asyncio.run(hold())
"""


def test_a_dry_run_says_what_its_calls_take_in_the_accounts_budgets(store: Any, penstock: Any, tmp_path: Path) -> None:
    """By account: events, the calls that they asked for before, and how long those take as calls of the background."""
    ids = [new_id() for _ in range(7)]
    (tmp_path / "penstock.toml").write_text(
        '[[imin.accounts]]\nname = "main"\nbase_url = "http://127.0.0.1:1"\nwebhook_keys = ["in"]\napi_key = "out"\n'
        "budget = { calls = 2, seconds = 60 }\n"
    )
    store.run(
        *(event(event_id, state="done") for event_id in ids),
        *(fetch(f"customer-{number}", path=f"/api/v2/customer-accounts/{number}") for number in range(1, 6)),
        *(link(event_id, number) for number, event_id in enumerate(ids[:5], 1)),
        link(ids[5], 5),
    )
    result = penstock("events", "replay", "--provider", "imin", "--dry-run", "--json")
    assert 7 == len(result.lines)
    assert "imin main: 7 events, about 5 calls; with what waits already, 5 calls at 2/min" in result.errors
    assert "1 of them never made a call and cannot be planned as they are" in result.errors
    assert [] == store.rows("SELECT FROM replays")


def test_a_dry_run_plans_what_was_never_planned(store: Any, penstock: Any, tmp_path: Path) -> None:
    """From the kept bodies, with the settings of now: shared calls count once, the unreadable stays unknown."""
    key = generate_key()
    keys = Keys.parse([SecretStr(key)])
    (tmp_path / "penstock.toml").write_text(
        '[[imin.accounts]]\nname = "main"\nbase_url = "http://127.0.0.1:1"\nwebhook_keys = ["in"]\napi_key = "out"\n'
        "budget = { calls = 2, seconds = 60 }\n"
    )
    ids = [new_id() for _ in range(5)]
    bodies = [
        f'{{"@id": "http://127.0.0.1:1/api/v2/customer-accounts/{name}", "identifier": "{name}"}}'.encode()
        for name in ("a", "b", "b")
    ]
    store.run(
        *(
            event(event_id, state="parked", error_reason="account-removed", body=keys.seal(body, event_id))
            for event_id, body in zip(ids, [*bodies, b"not JSON"], strict=False)
        ),
        event(ids[4], state="failed"),
        fetch("c", path="/api/v2/customer-accounts/c"),
        link(ids[4], 1),
    )
    result = penstock("events", "replay", "--provider", "imin", "--dry-run", PENSTOCK_ENCRYPTION_KEYS=key)
    assert "imin main: 5 events, about 3 calls; with what waits already, 3 calls at 2/min" in result.errors
    assert "1 of them never made a call and cannot be planned as they are" in result.errors
    assert {"parked", "failed"} == {row["state"] for row in store.rows("SELECT state FROM events")}
    assert 1 == len(store.rows("SELECT FROM fetches"))


def test_account_event_type_reason_and_until_narrow_a_replay(store: Any, penstock: Any) -> None:
    """All of them are to be met."""
    wanted = {"state": "failed", "account": "berlin", "event_types": ["A", "B"], "error_reason": "refused"}
    chosen = new_id()
    store.run(
        event(chosen, **wanted),
        event(**{**wanted, "account": "main"}),
        event(**{**wanted, "event_types": ["C"]}),
        event(**{**wanted, "error_reason": "poison"}),
        event(**wanted, received_at=NOW + timedelta(days=4)),
    )
    filters = ("--provider", "imin", "--account", "berlin", "--kind", "B", "--error", "refused")
    times = ("--until", "2026-05-02T00:00Z", "--since", "2026-04-30T00:00Z")
    assert 0 == penstock("events", "replay", *filters, *times, "--rate", "1000/s").status
    assert [chosen] == [row["id"] for row in store.rows("SELECT id FROM events WHERE state = 'received'")]
