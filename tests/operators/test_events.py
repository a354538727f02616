"""``penstock events list``, ``show`` and ``body``: the shapes of contract.md, "Operators' commands"."""

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from operators.rows import NOW, event, fetch, link, new_id, step
from shared.blobs import BlobStore
from shared.sealing import Keys, generate_key


EVENT_KEYS = [
    "id",
    "provider",
    "account",
    "state",
    "received_at",
    "finished_at",
    "duplicate_of",
    "attempts",
    "durability",
    "body_sha256",
    "body_bytes",
    "event_types",
    "error",
]
FETCH_KEYS = ["id", "method", "url", "state", "attempts", "status", "next_attempt_at", "error"]
IMIN = """
[[imin.accounts]]
name = "main"
webhook_keys = ["webhook-key-of-imin"]
api_key = "api-key-of-imin"
base_url = "https://book.imin.co"
"""


def test_a_listed_event_has_the_keys_and_types_of_the_contract(store: Any, penstock: Any) -> None:
    """One object a line, with every key in its documented form."""
    first, second = new_id(), new_id()
    store.run(
        event(first, body=b"one", event_types=["CustomerAccount"]),
        event(
            second,
            state="failed",
            finished_at=NOW + timedelta(seconds=2),
            duplicate_of=first,
            error_reason="attempts-used-up",
            error_detail="the provider said 500 twenty times",
        ),
        fetch("a", attempts=2),
        fetch("b", state="failed", attempts=20),
        link(second, 1),
        link(second, 2),
    )
    result = penstock("events", "list", "--json")
    newest, oldest = result.lines
    assert (0, "") == (result.status, result.errors)
    assert EVENT_KEYS == list(newest)
    assert {
        "id": str(second),
        "provider": "imin",
        "account": "main",
        "state": "failed",
        "received_at": "2026-05-01T12:00:00Z",
        "finished_at": "2026-05-01T12:00:02Z",
        "duplicate_of": str(first),
        "attempts": 20,
        "durability": "postgres",
        "body_sha256": hashlib.sha256(b"sealed").hexdigest(),
        "body_bytes": 6,
        "event_types": [],
        "error": {"reason": "attempts-used-up", "detail": "the provider said 500 twenty times"},
    } == newest
    assert (str(first), 0, None, None, None, ["CustomerAccount"]) == (
        oldest["id"],
        oldest["attempts"],
        oldest["error"],
        oldest["finished_at"],
        oldest["duplicate_of"],
        oldest["event_types"],
    )


def test_fifty_events_are_listed_newest_first_unless_told_otherwise(store: Any, penstock: Any) -> None:
    """The default limit is 50, 0 is all, and ids order by time."""
    ids = [new_id(NOW + timedelta(seconds=second)) for second in range(60)]
    store.run(*(event(event_id) for event_id in ids))
    newest_first = [str(event_id) for event_id in reversed(ids)]
    for arguments, expected in (
        ((), newest_first[:50]),
        (("--limit", 3), newest_first[:3]),
        (("--limit", 0), newest_first),
    ):
        listed = penstock("events", "list", *arguments, "--json").lines
        assert expected == [row["id"] for row in listed]


def test_filters_narrow_the_list_down_together(store: Any, penstock: Any) -> None:
    """Provider, account, state and time are all to be met."""
    wanted = new_id()
    match = {"provider": "paybook", "account": "key-2", "state": "parked"}
    store.run(
        event(wanted, **match),
        *(
            event(**{**match, name: other})
            for name, other in (("provider", "imin"), ("account", "key-1"), ("state", "done"))
        ),
        event(**match, received_at=NOW - timedelta(hours=1)),
    )
    filters = ("--provider", "paybook", "--account", "key-2", "--state", "parked", "--since", "2026-05-01T11:30Z")
    assert [str(wanted)] == [row["id"] for row in penstock("events", "list", *filters, "--json").lines]


def test_an_age_is_counted_back_from_now(store: Any, penstock: Any) -> None:
    """``--since 2h`` takes what came in within the last two hours."""
    store.run(
        event(received_at=NOW, account="old"),
        event(account="recent"),
        "UPDATE events SET received_at = now() - interval '1 hour' WHERE account = 'recent'",
        "UPDATE events SET received_at = now() - interval '3 hours' WHERE account = 'old'",
    )
    assert ["recent"] == [row["account"] for row in penstock("events", "list", "--since", "2h", "--json").lines]


def test_people_get_a_table_and_foreign_control_characters_never_reach_their_terminal(
    store: Any, penstock: Any
) -> None:
    """An escape sequence in an event type is shown as a replacement character; a pipe gets no colours."""
    store.run(event(event_types=["\x1b[31mred", "[bold]plain"]))
    output = penstock("events", "list").output.decode()
    assert "\x1b" not in output
    assert "\N{REPLACEMENT CHARACTER}[31mred, [bold]plain" in output


def test_an_empty_list_says_so_beside_the_output(penstock: Any) -> None:
    """No row, no output for programs, a sentence for people, and no error."""
    assert (0, b"", "There is no such event.\n") == penstock("events", "list", "--json")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--state", "finished"), "is not one of"),
        (("--provider", "imon"), "there is no provider imon"),
        (("--since", "yesterday"), "write a time such as"),
        (("--limit", "-1"), "greater than or equal to 0"),
        (("--colour",), "No such option"),
    ],
)
def test_what_cannot_be_meant_is_bad_usage(penstock: Any, arguments: tuple[str, ...], sentence: str) -> None:
    """Exit status 2, with a sentence that says what is wrong."""
    result = penstock("events", "list", *arguments)
    assert (2, b"") == (result.status, result.output)
    assert sentence in " ".join(result.errors.split())


def test_a_shown_event_has_its_calls_and_its_timeline(store: Any, penstock: Any, tmp_path: Path) -> None:
    """Calls have the account's URL, and a next attempt only while one is to come; steps are in order."""
    (tmp_path / "penstock.toml").write_text(IMIN)
    event_id = new_id()
    later = NOW + timedelta(minutes=5)
    store.run(
        event(event_id, state="waiting"),
        fetch("a", attempts=1, status=200, due_at=later),
        fetch("b", state="waiting", attempts=3, status=503, due_at=later, error_reason="poison", error_detail="why"),
        fetch("c", account="gone"),
        *(link(event_id, number) for number in (1, 2, 3)),
        step(event_id, "planned", "3 calls", after=1),
        step(event_id, "received"),
    )
    result = penstock("events", "show", event_id, "--json")
    (shown,) = result.lines
    assert [*EVENT_KEYS, "fetches", "timeline", "forecast"] == list(shown)
    assert [FETCH_KEYS] * 3 == [list(call) for call in shown["fetches"]]
    assert {
        "id": 2,
        "method": "GET",
        "url": "https://book.imin.co/api/v2/customer-accounts/abc",
        "state": "waiting",
        "attempts": 3,
        "status": 503,
        "next_attempt_at": "2026-05-01T12:05:00Z",
        "error": {"reason": "poison", "detail": "why"},
    } == shown["fetches"][1]
    assert (None, 200, None) == (
        shown["fetches"][0]["next_attempt_at"],
        shown["fetches"][0]["status"],
        shown["fetches"][0]["error"],
    )
    assert "/api/v2/customer-accounts/abc" == shown["fetches"][2]["url"]
    assert [
        {"at": "2026-05-01T12:00:01Z", "step": "planned", "detail": "3 calls"},
        {"at": "2026-05-01T12:00:00Z", "step": "received", "detail": ""},
    ] == shown["timeline"]


def test_a_shown_event_reads_well_and_survives_broken_settings(store: Any, penstock: Any, tmp_path: Path) -> None:
    """People see the event, its calls by path alone, and its timeline, though penstock.toml is not valid."""
    (tmp_path / "penstock.toml").write_text("[[imin.accounts")
    event_id = new_id()
    store.run(event(event_id), fetch("a"), link(event_id, 1), step(event_id, "received", "by ingress-1"))
    result = penstock("events", "show", event_id)
    text = result.output.decode()
    assert 0 == result.status
    for part in (str(event_id), "imin (main)", "/api/v2/customer-accounts/abc", "by ingress-1"):
        assert part in text


@pytest.mark.parametrize("command", ["show", "body"])
def test_an_event_that_is_not_there_is_a_sentence(penstock: Any, command: str) -> None:
    """Exit status 1, and nothing on standard output."""
    event_id = new_id()
    assert (1, b"", f"penstock: there is no event {event_id}\n") == penstock("events", command, event_id)


@pytest.mark.parametrize("command", ["show", "body", "replay"])
def test_what_cannot_be_an_id_is_bad_usage(penstock: Any, command: str) -> None:
    """Exit status 2 before any store is asked."""
    assert 2 == penstock("events", command, "nonsense", PENSTOCK_DATABASE_URL="postgresql://127.0.0.1:1/x").status


def test_a_body_comes_back_byte_for_byte_from_the_row_and_from_a_blob(
    store: Any, penstock: Any, tmp_path: Path
) -> None:
    """Whatever bytes they are; small bodies lie in the row and large ones in the blob store, both sealed."""
    key = generate_key()
    keys = Keys.parse([SecretStr(key)])
    small, large = new_id(), new_id()
    small_body, large_body = bytes(range(256)), bytes(range(256)) * 1024
    asyncio.run(BlobStore.open((tmp_path / "data" / "blobs").as_uri(), keys).put("bodies/large", large_body, large))
    store.run(event(small, body=keys.seal(small_body, small)), event(large, body=None, blob="bodies/large"))
    for event_id, expected in ((small, small_body), (large, large_body)):
        assert (0, expected, "") == penstock("events", "body", event_id, PENSTOCK_ENCRYPTION_KEYS=key)


def test_a_body_that_cannot_be_unsealed_prints_nothing_of_it(store: Any, penstock: Any) -> None:
    """A missing key is one sentence and exit status 1."""
    event_id = new_id()
    store.run(event(event_id, body=Keys.parse([SecretStr(generate_key())]).seal(b"secret", event_id)))
    status, output, errors = penstock("events", "body", event_id)
    assert (1, b"", 1) == (status, output, errors.count("\n"))
    assert "PENSTOCK_ENCRYPTION_KEYS" in errors
