"""``penstock events failed`` and ``penstock events discard``: dead letters are counted, explained and put away."""

import getpass
from datetime import timedelta
from typing import Any

import pytest

from operators.rows import NOW, event, new_id


ME = getpass.getuser()


def test_dead_letters_are_counted_by_provider_and_reason(store: Any, penstock: Any) -> None:
    """With the oldest, the newest and what to do; discarded ones and those of other states are left out."""
    store.run(
        *(
            event(state="failed", error_reason="attempts-used-up", received_at=NOW + timedelta(hours=hour))
            for hour in range(3)
        ),
        event(state="parked", error_reason="unknown-type", provider="magicline"),
        event(state="parked", error_reason="not-json", discarded_at=NOW, discard_reason="x"),
        event(state="done"),
        event(state="quarantined"),
    )
    imin, magicline = penstock("events", "failed", "--json").lines
    assert ("imin", "attempts-used-up", 3) == (imin["provider"], imin["reason"], imin["count"])
    assert ("2026-05-01T12:00:00Z", "2026-05-01T14:00:00Z") == (imin["oldest"], imin["newest"])
    assert "answers again" in imin["advice"]
    assert ("magicline", "unknown-type", 1) == (magicline["provider"], magicline["reason"], magicline["count"])
    assert 1 == len(penstock("events", "failed", "--provider", "imin", "--json").lines)
    assert b"replay it after an update" in penstock("events", "failed").output
    assert (0, b"", "No event is parked or failed.\n") == penstock("events", "failed", "--provider", "paybook")


def test_a_discarded_event_leaves_the_lists_and_keeps_its_state(store: Any, penstock: Any) -> None:
    """Its timeline says why and who; the list of discarded ones has it, and `show` too."""
    event_id, other = new_id(), new_id()
    store.run(event(event_id, state="parked", error_reason="not-json"), event(other, state="parked"))
    result = penstock("events", "discard", event_id, "--reason", "sent by a test")
    assert (0, True) == (result.status, "1 event: is discarded" in result.errors)
    assert [str(other)] == [line["id"] for line in penstock("events", "list", "--json").lines]
    assert [str(event_id)] == [line["id"] for line in penstock("events", "list", "--discarded", "--json").lines]
    (shown,) = penstock("events", "show", event_id, "--json").lines
    assert ("parked", "discarded", f"sent by a test (by {ME})") == (
        shown["state"],
        shown["timeline"][-1]["step"],
        shown["timeline"][-1]["detail"],
    )
    again = penstock("events", "discard", event_id, "--reason", "once more")
    assert (0, True) == (again.status, "was discarded before" in again.errors)
    assert [("sent by a test",)] == [
        tuple(row) for row in store.rows("SELECT discard_reason FROM events WHERE discarded_at IS NOT NULL")
    ]


def test_a_replay_by_filters_leaves_discarded_events_out_and_one_by_id_takes_them_up(store: Any, penstock: Any) -> None:
    """The mark goes with the state."""
    event_id = new_id()
    store.run(event(event_id, state="failed", discarded_at=NOW, discard_reason="x"))
    assert "There is no such event" in penstock("events", "replay", "--state", "failed").errors
    assert 0 == penstock("events", "replay", event_id).status
    rows = store.rows("SELECT state, discarded_at, discard_reason FROM events")
    assert [("received", None, None)] == [tuple(row) for row in rows]


@pytest.mark.parametrize("state", ["received", "processing", "waiting", "done", "duplicate", "quarantined"])
def test_what_is_no_dead_letter_is_left_alone(store: Any, penstock: Any, state: str) -> None:
    """By its id with exit status 1; filters do not even mean it."""
    event_id = new_id()
    store.run(event(event_id, state=state))
    result = penstock("events", "discard", event_id, "--reason", "x")
    assert (1, True) == (result.status, "neither parked nor failed" in result.errors)
    assert 0 == penstock("events", "discard", "--provider", "imin", "--reason", "x").status
    assert [] == store.rows("SELECT FROM events WHERE discarded_at IS NOT NULL")


def test_discarding_by_filters_takes_parked_and_failed_ones(store: Any, penstock: Any) -> None:
    """Provider, account, event type, reason and time are all to be met; a dry run changes nothing."""
    wanted = {"account": "berlin", "event_types": ["A"], "error_reason": "poison", "received_at": NOW}
    ids = [new_id(), new_id()]
    store.run(
        event(ids[0], state="failed", **wanted),
        event(ids[1], state="parked", **wanted),
        event(state="parked", **{**wanted, "account": "other"}),
        event(state="parked", **{**wanted, "event_types": ["B"]}),
        event(state="parked", **{**wanted, "error_reason": "empty"}),
        event(state="parked", **{**wanted, "received_at": NOW - timedelta(days=3)}),
        event(state="parked", **{**wanted, "received_at": NOW + timedelta(days=3)}),
    )
    filters = ("--provider", "imin", "--account", "berlin", "--kind", "A", "--error", "poison", "--reason", "old")
    times = ("--since", "2026-05-01T11:00Z", "--until", "2026-05-01T13:00Z")
    dry = penstock("events", "discard", *filters, *times, "--dry-run", "--json")
    assert sorted(map(str, ids)) == sorted(line["id"] for line in dry.lines)
    assert [] == store.rows("SELECT FROM events WHERE discarded_at IS NOT NULL")
    assert "2 events: is discarded" in penstock("events", "discard", *filters, *times).errors
    assert sorted(ids) == [row["id"] for row in store.rows("SELECT id FROM events WHERE discarded_at > $1", NOW)]


def test_an_unknown_event_or_no_reason_discards_nothing(store: Any, penstock: Any) -> None:
    """Exit status 1 and 2."""
    known = new_id()
    store.run(event(known, state="failed"))
    assert 1 == penstock("events", "discard", known, new_id(), "--reason", "x").status
    assert 2 == penstock("events", "discard", known).status
    assert 2 == penstock("events", "discard", known, "--reason", "").status
    assert 2 == penstock("events", "discard", "--reason", "x").status
    assert [] == store.rows("SELECT FROM events WHERE discarded_at IS NOT NULL")
