"""``penstock handovers``: what is listed and explained, what is sent again, and what is discarded."""

import getpass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from operators.rows import NOW, change, handler, handover


ME = getpass.getuser()


def _states(store: Any) -> list[tuple[int, str]]:
    return [tuple(row) for row in store.rows("SELECT id, state FROM handovers ORDER BY id")]


def _feed(store: Any, *states: str, **columns: Any) -> None:
    """A handler, a change for each state, and its hand-over in that state."""
    store.run(
        handler(),
        *(change(f"r{seq}", seq=seq, at=NOW) for seq in range(1, len(states) + 1)),
        *(handover(seq, state=state, **columns) for seq, state in enumerate(states, 1)),
    )


def test_hand_overs_are_listed_newest_first_with_what_they_are_about(store: Any, penstock: Any) -> None:
    """All that an operator needs to act, with the id that the receiver has in its log."""
    _feed(store, "done", "waiting", error_reason="refused", error_detail="said 500", attempts=3, due_at=NOW)
    newest, oldest = penstock("handovers", "list", "--json").lines
    assert (2, 1) == (newest["id"], oldest["id"])
    assert newest["change"].startswith("chg_")
    assert len("chg_") + 32 == len(newest["change"])
    named = ("handler", "seq", "state", "attempts", "kind", "external_id", "account", "provider", "op", "error", "note")
    about = ("imin.customer-account", "r2", "main", "imin", "updated")
    said = {"reason": "refused", "detail": "said 500"}
    assert ("crm", 2, "waiting", 3, *about, said, None) == tuple(newest[name] for name in named)
    assert "2026-05-01T12:00:00Z" == newest["next_attempt_at"]
    assert oldest["next_attempt_at"] is None


def test_filters_of_the_list_hold_together(store: Any, penstock: Any) -> None:
    """Handler, state, provider, kind, reason, time and limit; discarded ones only when they are asked for."""
    store.run(
        handler(),
        handler("shop"),
        *(
            change(f"r{seq}", seq=seq, at=NOW + timedelta(hours=seq), kind=kind)
            for seq, kind in enumerate(["a.b", "a.c", "a.b", "a.b"], 1)
        ),
        *(handover(seq, state=state) for seq, state in enumerate(["parked", "parked", "done", "discarded"], 1)),
        *(handover(seq, handler="shop", state="parked", error_reason="poison") for seq in (1, 2)),
    )

    def ids(*arguments: str) -> list[int]:
        return [line["id"] for line in penstock("handovers", "list", "--json", *arguments).lines]

    assert [3, 6, 2, 5, 1] == ids()
    assert [3, 6] == ids("--limit", "2")
    assert [2, 1] == ids("--handler", "crm", "--state", "parked")
    assert [5, 1] == ids("--kind", "a.b", "--state", "parked")
    assert [6, 5] == ids("--error", "poison", "--limit", "0")
    assert [4] == ids("--state", "discarded")
    assert [3] == ids("--since", "2026-05-01T15:00Z")
    assert [] == ids("--provider", "paybook")


def test_every_page_of_a_long_list_is_printed_once(store: Any, penstock: Any) -> None:
    """``--limit 0`` is all of them, in order, also past the first pages and with a filter."""
    store.run(
        handler(),
        handler("shop"),
        """
        INSERT INTO changes (seq, op, provider, account, kind, external_id, changed)
        SELECT n, 'updated', 'imin', 'main', 'k', n, '{}' FROM generate_series(1, 1300) AS n
        """,
        """
        INSERT INTO handovers (handler, change_id, seq, lane, state)
        SELECT name, n, n, n, CASE WHEN n % 2 = 0 THEN 'done' ELSE 'parked' END
        FROM generate_series(1, 1300) AS n, unnest(ARRAY['crm', 'shop']) AS name
        """,
    )
    lines = penstock("handovers", "list", "--limit", "0", "--json").lines
    assert [seq for seq in range(1300, 0, -1) for _ in range(2)] == [line["seq"] for line in lines]
    assert 2600 == len({line["id"] for line in lines})
    assert 2600 == len(penstock("handovers", "list", "--kind", "k", "--limit", "0", "--json").lines)
    assert 700 == len(penstock("handovers", "list", "--provider", "imin", "--limit", "700", "--json").lines)


@pytest.mark.parametrize(
    ("state", "reason", "sentence"),
    [
        ("parked", "attempts-used-up", "mend it, then replay"),
        ("parked", None, "mend the handler"),
        ("waiting", "endpoint-gone", "penstock handlers resume crm"),
        ("waiting", "no-answer", "tried again by itself"),
        ("pending", None, "nothing to do"),
        ("running", None, "nothing to do"),
        ("done", None, "nothing to do"),
        ("discarded", None, "a replay sends it all the same"),
        ("discarded", "change-removed", "nothing to send"),
    ],
)
def test_one_is_explained_in_a_sentence(
    store: Any, penstock: Any, state: str, reason: str | None, sentence: str
) -> None:
    """What it is, and what to do about it."""
    _feed(store, state, error_reason=reason)
    (shown,) = penstock("handovers", "show", 1, "--json").lines
    assert sentence in shown["advice"]
    assert sentence in penstock("handovers", "show", 1).output.decode()


def test_an_unknown_hand_over_handler_or_change_is_an_error(store: Any, penstock: Any) -> None:
    """Exit status 1 with a sentence, and what does exist is as before."""
    _feed(store, "parked")
    store.run(handler("shop"))
    assert (1, "penstock: there is no hand-over 7\n") == penstock("handovers", "show", 7)[::2]
    for arguments, sentence in (
        (("1", "7"), "there is no hand-over 7"),
        (("--change", "9"), "there is no change 9 in the feed"),
        (("--change", "1", "--handler", "shop"), "the change 1 was handed to nobody"),
        (("--change", f"chg_{0:032x}"), "no change of this installation has the id"),
        (("--handler", "nobody"), "there is no handler nobody"),
    ):
        for command in (("replay",), ("discard", "--reason", "x")):
            result = penstock("handovers", *command, *arguments)
            assert (1, True) == (result.status, sentence in result.errors), result.errors
    assert [(1, "parked")] == _states(store)


def test_finished_ones_are_sent_again_and_those_that_wait_are_hurried(store: Any, penstock: Any) -> None:
    """With all attempts before them; what runs is left alone, and each remembers why and who."""
    far = NOW + timedelta(days=9999)
    states = ("done", "parked", "discarded", "waiting", "pending", "running")
    _feed(store, *states, attempts=5, deaths=2, due_at=far, error_reason="refused", finished_at=NOW)
    result = penstock("handovers", "replay", *range(1, 7), "--reason", "bug mended", "--json")
    assert 1 == result.status
    outcomes = ["replayed", "replayed", "replayed", "hurried", "due", "running"]
    assert list(zip(states, outcomes, strict=True)) == [(line["state"], line["outcome"]) for line in result.lines]
    fresh = store.rows(
        "SELECT id, note FROM handovers WHERE state = 'pending' AND attempts = 0 AND deaths = 0 AND due_at <= now()"
        " AND finished_at IS NULL AND error_reason IS NULL ORDER BY id"
    )
    assert [(number, f"replayed: bug mended (by {ME})") for number in range(1, 5)] == [tuple(row) for row in fresh]
    assert [(5, "pending"), (6, "running")] == _states(store)[4:]


def test_a_replay_by_filters_leaves_discarded_ones_out(store: Any, penstock: Any) -> None:
    """Unless they are asked for; a dry run changes nothing and names exactly what the real one does."""
    _feed(store, "done", "discarded", "parked")
    dry = penstock("handovers", "replay", "--handler", "crm", "--dry-run", "--json")
    assert (0, [1, 3]) == (dry.status, [line["id"] for line in dry.lines])
    assert [(1, "done"), (2, "discarded"), (3, "parked")] == _states(store)
    assert [] == store.rows("SELECT FROM replays")
    assert "2 hand-overs: is handed over again" in penstock("handovers", "replay", "--handler", "crm").errors
    assert [(1, "pending"), (2, "discarded"), (3, "pending")] == _states(store)
    assert 0 == penstock("handovers", "replay", "--state", "discarded").status
    assert (2, "pending") == _states(store)[1]


def test_all_filters_of_a_replay_are_met_together(store: Any, penstock: Any) -> None:
    """Handler, state, provider, kind, reason, and the time at which the change happened; and by change."""
    store.run(
        handler(),
        handler("shop"),
        *(
            change(f"r{seq}", seq=seq, at=NOW + timedelta(hours=seq), kind="a.c" if seq == 4 else "a.b")
            for seq in range(1, 7)
        ),
        *(handover(seq, state="parked", error_reason="poison") for seq in range(1, 6)),
        handover(6, state="done"),
        handover(3, handler="shop", state="parked", error_reason="poison"),
    )
    filters = ("--handler", "crm", "--state", "parked", "--provider", "imin", "--kind", "a.b", "--error", "poison")
    times = ("--since", "2026-05-01T14:00Z", "--until", "2026-05-01T17:00Z")
    dry = penstock("handovers", "replay", *filters, *times, "--dry-run", "--json")
    assert [2, 3, 5] == [line["id"] for line in dry.lines]
    by_change = penstock("handovers", "replay", "--change", 3, "--change", 6, "--dry-run", "--json")
    assert [(3, "crm"), (6, "crm"), (3, "shop")] == [(line["seq"], line["handler"]) for line in by_change.lines]
    one = penstock("handovers", "replay", "--change", 3, "--handler", "shop", "--dry-run", "--json")
    assert [7] == [line["id"] for line in one.lines]


def test_a_change_that_is_not_kept_any_more_cannot_be_sent(store: Any, penstock: Any) -> None:
    """It says so; the hand-over stays as it was."""
    store.run(handler(), handover(1, state="parked"))
    result = penstock("handovers", "replay", 1)
    assert (1, True) == (result.status, "not kept any more" in result.errors)
    assert [(1, "parked")] == _states(store)


def test_a_replay_says_what_keeps_its_handler_from_getting_anything(store: Any, penstock: Any, tmp_path: Any) -> None:
    """It is gone, or stopped; and a dry run says how long its budget takes."""
    _feed(store, *["parked"] * 10)
    gone = penstock("handovers", "replay", "--state", "parked", "--dry-run")
    assert "crm is neither in the settings nor in an installed package" in gone.errors
    store.run("UPDATE handlers SET stopped_reason = 'endpoint-gone', stopped_detail = 'it answered 410'")
    (tmp_path / "penstock.toml").write_text(
        '[[handlers]]\nname = "crm"\nurl = "https://crm.example.com/"\n'
        'secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"\nbudget = { calls = 20, seconds = 60 }\n'
    )
    result = penstock("handovers", "replay", "--state", "parked", "--dry-run")
    assert "penstock handlers resume crm" in result.errors
    assert "10 messages take 30 s or more" in result.errors


def test_discarding_needs_a_reason_and_says_who(store: Any, penstock: Any) -> None:
    """What is done or being handed over is left alone; the reason of the failure stays."""
    states = ("parked", "waiting", "pending", "running", "done", "discarded")
    _feed(store, *states, error_reason="refused")
    assert 2 == penstock("handovers", "discard", 1).status
    assert 2 == penstock("handovers", "discard", 1, "--reason", "  ").status
    result = penstock("handovers", "discard", *range(1, 7), "--reason", "test data", "--json")
    assert 1 == result.status
    outcomes = ["discarded"] * 3 + ["running", "delivered", "discarded-before"]
    assert outcomes == [line["outcome"] for line in result.lines]
    assert ["discarded"] * 3 + ["running", "done", "discarded"] == [state for _, state in _states(store)]
    rows = store.rows("SELECT note, error_reason FROM handovers WHERE note IS NOT NULL")
    assert [(f"discarded: test data (by {ME})", "refused")] * 3 == [tuple(row) for row in rows]


def test_discarding_by_filters_is_about_parked_ones_unless_a_state_is_named(store: Any, penstock: Any) -> None:
    """Nobody throws away what only waits by a slip of the hand; a dry run changes nothing."""
    _feed(store, "parked", "waiting", "pending")
    dry = penstock("handovers", "discard", "--handler", "crm", "--reason", "old", "--dry-run", "--json")
    assert [1] == [line["id"] for line in dry.lines]
    assert [(1, "parked"), (2, "waiting"), (3, "pending")] == _states(store)
    penstock("handovers", "discard", "--handler", "crm", "--reason", "old")
    penstock("handovers", "discard", "--state", "waiting", "--reason", "old")
    assert [(1, "discarded"), (2, "discarded"), (3, "pending")] == _states(store)


def test_a_change_is_found_by_the_id_that_its_receiver_has(store: Any, penstock: Any) -> None:
    """Shown with what became of it at each handler, discarded ones too; listed, discarded and sent again by it."""
    _feed(store, "done", "parked", "done", error_reason="refused")
    store.run(handler("shop"), handover(2, handler="shop", state="discarded"))
    ids = [line["id"] for line in penstock("changes", "tail", "--json").lines]
    (shown,) = penstock("changes", "show", ids[1], "--json").lines
    assert (2, ids[1], "r2") == (shown["seq"], shown["id"], shown["external_id"])
    assert {("crm", "parked"), ("shop", "discarded")} == {
        (each["handler"], each["state"]) for each in shown["handovers"]
    }
    assert {ids[1]} == {each["change"] for each in shown["handovers"]}
    assert shown == penstock("changes", "show", 2, "--json").lines[0]
    assert b"refused" in penstock("changes", "show", ids[1]).output
    assert [(2, "crm"), (4, "shop")] == sorted(
        (line["id"], line["handler"]) for line in penstock("handovers", "list", "--change", ids[1], "--json").lines
    )
    assert 0 == penstock("handovers", "replay", "--change", ids[1], "--handler", "crm").status
    assert 0 == penstock("handovers", "discard", "--change", ids[1], "--handler", "crm", "--reason", "x").status
    assert [(1, "done"), (2, "discarded"), (3, "done"), (4, "discarded")] == _states(store)
    store.run("DELETE FROM handovers WHERE change_id = 3", "DELETE FROM changes WHERE id = 3")
    for name, sentence in ((ids[2], f"the change {ids[2]} is not kept any more"), ("3", "there is no change 3")):
        result = penstock("changes", "show", name)
        assert (1, True) == (result.status, sentence in result.errors)
    assert 2 == penstock("changes", "show", "chg_5e0c").status


def _with_handler(folder: Path, kinds: str) -> None:
    (folder / "penstock.toml").write_text(
        f'[[handlers]]\nname = "crm"\nurl = "http://127.0.0.1:1"\nkinds = {kinds}\nops = ["created", "updated"]\n'
        'secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"\nbudget = { calls = 60, seconds = 60 }\n'
    )


def test_a_handler_gets_what_it_never_had(store: Any, penstock: Any, tmp_path: Path) -> None:
    """Only what it wants now, what it never had, and what the filters let through; a dry run says how many."""
    _with_handler(tmp_path, '["a.b", "a.c"]')
    store.run(
        handler(cursor=6),
        *(
            change(f"r{seq}", seq=seq, at=NOW, kind=kind, op=op)
            for seq, (kind, op) in enumerate(
                [("a.b", "created"), ("a.c", "updated"), ("a.d", "updated"), ("a.b", "deleted"), ("a.b", "updated")], 1
            )
        ),
        *(change(f"r{seq}", seq=seq, at=NOW, kind="a.b") for seq in (6, 7)),
        handover(5, state="parked"),
    )
    missing = ("handovers", "replay", "--handler", "crm", "--missing")
    dry = penstock(*missing, "--dry-run", "--json")
    assert [(1, "created", "r1"), (2, "updated", "r2"), (6, "updated", "r6")] == [
        (line["seq"], line["op"], line["external_id"]) for line in dry.lines
    ]
    assert "3 changes: was never handed over to it" in dry.errors
    assert "crm: 3 messages take 3 s or more in its budget" in dry.errors
    assert [(1, "parked")] == _states(store)
    assert [1, 2] == [
        line["seq"] for line in penstock(*missing, "--change", 1, "--change", 2, "--dry-run", "--json").lines
    ]
    assert [] == penstock(*missing, "--provider", "paybook", "--dry-run", "--json").lines
    assert [6] == [line["seq"] for line in penstock(*missing, "--after", 2, "--dry-run", "--json").lines]
    assert "1 change: " in penstock(*missing, "--kind", "a.c", "--reason", "asked for").errors
    (made,) = penstock("handovers", "list", "--kind", "a.c", "--json").lines
    assert (2, "pending", f"replayed: asked for (by {ME})") == (made["seq"], made["state"], made["note"])
    assert "2 changes: " in penstock(*missing).errors
    result = penstock(*missing)
    assert (0, True) == (result.status, "no such change that crm wants and never had" in result.errors)
    assert 1 == penstock(*missing, "--change", 3).status
    assert [1, 2, 5, 6] == [row["seq"] for row in store.rows("SELECT seq FROM handovers ORDER BY seq")]
    newest = penstock("replays", "list", "--json").lines[-2]
    assert ({"handler": "crm", "missing": True}, {"made": 2}) == (newest["asked"], newest["counts"])


def test_what_nobody_knows_the_wishes_of_gets_nothing(store: Any, penstock: Any, tmp_path: Path) -> None:
    """A handler that left the settings, or was never there; and --missing alone, or beside what contradicts it."""
    store.run(handler(), change("r1", seq=1, at=NOW))
    result = penstock("handovers", "replay", "--handler", "crm", "--missing")
    assert (1, True) == (result.status, "nobody knows which changes it wants" in result.errors)
    _with_handler(tmp_path, "[]")
    store.run("DELETE FROM handlers")
    assert "there is no handler crm" in penstock("handovers", "replay", "--handler", "crm", "--missing").errors
    for arguments in (("--since", "1h"), ("--handler", "crm", "--state", "parked"), ("1", "--handler", "crm")):
        assert 2 == penstock("handovers", "replay", "--missing", *arguments).status
    assert [] == store.rows("SELECT FROM handovers")


def test_a_handler_that_will_not_come_back_is_forgotten(store: Any, penstock: Any, tmp_path: Path) -> None:
    """With all that waited for it; not one that is in the settings, and nobody else's."""
    _feed(store, "done", "parked", "pending")
    store.run(handler("shop"), handover(1, handler="shop", state="parked"))
    _with_handler(tmp_path, "[]")
    result = penstock("handlers", "forget", "crm", "--yes")
    assert (1, True) == (result.status, "take it out first" in result.errors)
    (tmp_path / "penstock.toml").write_text("")
    assert 2 == penstock("handlers", "forget", "crm").status
    assert (0, "crm is forgotten, with 3 hand-overs.\n") == penstock("handlers", "forget", "crm", "--yes")[::2]
    assert ["shop"] == [row["name"] for row in store.rows("SELECT name FROM handlers")]
    assert [(4, "parked")] == _states(store)
    assert 1 == penstock("handlers", "forget", "crm", "--yes").status


@pytest.mark.parametrize("command", [("replay",), ("discard", "--reason", "x")])
@pytest.mark.parametrize(
    "arguments",
    [(), ("1", "--state", "parked"), ("--since", "1h", "--until", "2h"), ("--state", "odd"), ("--rate", "fast", "1")],
)
def test_bad_usage_is_told_and_does_nothing(
    penstock: Any, command: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    """Nothing in particular, both ways at once, a time that ends before it begins, what no state or rate is."""
    assert 2 == penstock("handovers", *command, *arguments).status
