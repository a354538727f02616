"""No statement of a process that runs for long writes or locks without a bound, nor names its rows in two ways.

Whatever grows must be worked off in pieces: a statement that touches all of it is given up after 30 seconds, rolled
back, and begun again for ever.
"""

import re
from pathlib import Path

import pytest

from statements import Statement, is_bounded, of_source, statements


ROOT = Path(__file__).parents[2]

FOLDERS = ("shared", "ingress", "workers")

_SETTINGS = "as many as the settings name: handlers"
_BATCH = "what one process holds: a batch of events, a window of calls"
_PAGES = "the links of one event: at most max_calls of them and their pages"
_LINES = "the timeline of a bounded number of events: some lines each"
_COMMAND = "a command's, which an operator waits for"

EXCEPTIONS = {
    "shared/store/acquitting.py:_plan_again DELETE event_fetches": _PAGES,
    "shared/store/acquitting.py:_plan_again LOCK events": "the events of calls that were tried alone",
    "shared/store/acquitting.py:acquit DELETE lapses": _BATCH,
    "shared/store/acquitting.py:forget DELETE lapses": _BATCH,
    "shared/store/blobs.py:let_go UPDATE blobs": "the images of bounded events: some each",
    "shared/store/erasing.py:erase_changes DELETE handovers": "the hand-overs of bounded changes: one a handler",
    "shared/store/erasing.py:erase_events DELETE event_fetches": _PAGES,
    "shared/store/erasing.py:erase_events DELETE timeline": _LINES,
    "shared/store/erasing.py:erase_records DELETE answers": _COMMAND,
    "shared/store/erasing.py:erase_walks DELETE dynamic": _COMMAND,
    "shared/store/erasing.py:erase_walks DELETE identities": _COMMAND,
    "shared/store/erasing.py:erase_walks DELETE reconciliation_sights": _COMMAND,
    "shared/store/erasing.py:erase_walks DELETE reconciliations": _COMMAND,
    "shared/store/erasing.py:erase_walks UPDATE reconciliations": _COMMAND,
    "shared/store/fetching.py:_held LOCK event_fetches": "it locks fetches by their ids; their links are read alone",
    "shared/store/fetching.py:_merge DELETE event_fetches": "the events of bounded fetches; linear in them",
    "shared/store/gaps/registrations.py:keep DELETE registrations": "the webhooks that one account has registered",
    "shared/store/handovers/handing_over.py:_taking LOCK found": "what its callers have found has a LIMIT",
    "shared/store/handovers/handing_over.py:_taking UPDATE handovers": "the same",
    "shared/store/handovers/handlers.py:stir UPDATE handlers": _SETTINGS,
    "shared/store/handovers/handlers.py:wake LOCK handlers": _SETTINGS,
    "shared/store/handovers/handlers.py:wake UPDATE handlers": _SETTINGS,
    "shared/store/known_accounts.py:remove_others UPDATE known_accounts": "the accounts of the installation",
    "shared/store/leases.py:expire LOCK worker_processes": "the processes of the installation",
    "shared/store/quarantine.py:_LAPSE DELETE timeline": _LINES,
    "shared/store/queueing.py:_due UPDATE dynamic": "both of its SELECTs have a LIMIT; they are put in by its callers",
    "shared/store/records/once.py:forget DELETE once_marks": "the marks of bounded records",
    "shared/store/records/recording.py:_TOUCH UPDATE records": "the records of its arguments, by their whole key",
    "shared/store/releasing.py:_events LOCK events": _BATCH,
    "shared/store/releasing.py:_events UPDATE events": _BATCH,
    "shared/store/releasing.py:_fetches DELETE event_fetches": "the events of a batch of fetches; linear in them",
    "shared/store/releasing.py:_fetches DELETE fetches": _BATCH,
    "shared/store/releasing.py:_fetches LOCK fetches": _BATCH,
    "shared/store/releasing.py:_fetches UPDATE fetches": _BATCH,
    "shared/store/releasing.py:give_back UPDATE events": _BATCH,
    "shared/store/replaying.py:_HURRY LOCK fetches": _PAGES,
    "shared/store/replaying.py:_HURRY UPDATE fetches": _PAGES,
    "shared/store/retention.py:remove_changes LOCK handovers": "the hand-overs of a chunk of changes: one a handler",
    "shared/store/retention.py:remove_changes DELETE handovers": "the hand-overs of a chunk of changes: one a handler",
    "shared/store/retention.py:remove_timeline DELETE timeline": _LINES,
    "shared/store/retention_guard.py:allow UPDATE retention": "a row a provider, account and kind of data",
    "shared/store/rotating.py:note_rotated UPDATE installation": "a table of one row",
    "shared/store/settings_trouble.py:tell DELETE settings_trouble": "a table of one row",
}
"""Statements that do not say their bound themselves, and what bounds them."""

NAMED_TWICE = {
    "shared/store/erasing.py:erase_fetches DELETE fetches": "the other column is of a look-up for each row",
    "shared/store/fetching.py:_update UPDATE fetches": "a window of calls: at most twice its 75 places",
    "shared/store/links.py:_GONE DELETE fetches": "the other column is of a look-up for each row",
    "shared/store/quarantine.py:_TAKE LOCK quarantine": "at most 2,000 are kept, and it goes through a part of them",
}
"""Statements whose rows are named by an array and by a join, both."""


def found() -> list[Statement]:
    """Every statement of these processes that writes or locks."""
    return list(statements(ROOT, *FOLDERS))


def test_what_writes_or_locks_has_a_bound() -> None:
    """A LIMIT, keys in its arguments, or a place in the table above; what is bounded now leaves the table."""
    assert 100 < len(found())
    assert {*EXCEPTIONS} == {each.key for each in found() if not is_bounded(each)}


def test_rows_are_named_once() -> None:
    """An array in the condition of an inner index scan is gone through for each row of the outer one: N times N."""
    assert {*NAMED_TWICE} == {each.key for each in found() if is_named_twice(each)}


def is_named_twice(statement: Statement) -> bool:
    """Whether one column is compared with an array of the arguments and with another column."""
    named = re.findall(r"\b(?:(\w+)\.)?(\w+)\s*=\s*ANY\s*\(\s*\$\d+", statement.clause)
    columns = [rf"{table or statement.table}\.{column}" for table, column in named]
    return any(re.search(rf"\b{it}\s*=\s*\w+\.\w+|\w\.\w+\s*=\s*{it}\b", statement.clause) for it in columns)


@pytest.mark.parametrize(
    ("sql", "bounded"),
    [
        ("UPDATE events SET state = 'received' WHERE state = 'parked'", False),
        ("DELETE FROM tallies", False),
        ("DELETE FROM timeline WHERE event_id = $1", False),
        ("SELECT id FROM events WHERE state = 'parked' ORDER BY id FOR UPDATE", False),
        ("WITH old AS (SELECT id FROM events FOR UPDATE) DELETE FROM events USING old WHERE events.id = old.id", False),
        ("DELETE FROM records WHERE provider = $1 AND account = $2", False),
        ("UPDATE events SET state = 'received' WHERE id = ANY($1)", True),
        ("DELETE FROM records WHERE provider = $1 AND account = $2 AND kind = $3 AND external_id = ANY($4)", True),
        (
            "UPDATE events e SET state = p.s FROM unnest($1::uuid[], $2::text[]) AS p (id, s) WHERE e.id = p.id",
            True,
        ),
        ("WITH old AS (SELECT id FROM events LIMIT 5) DELETE FROM events WHERE id IN (SELECT id FROM old)", True),
        ("WITH old AS (SELECT id FROM events LIMIT 5) DELETE FROM timeline USING old WHERE event_id = old.id", False),
        ("SELECT id FROM events WHERE state = 'parked' LIMIT 500 FOR UPDATE SKIP LOCKED", True),
    ],
)
def test_the_reader_tells_what_is_bounded(sql: str, bounded: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It would see what a change brings along."""
    (*_, last) = of_source("one.py", f"SQL = {sql!r}")
    assert bounded == is_bounded(last)


def test_the_reader_sees_rows_that_are_named_twice() -> None:
    """As the settling of a fetch's events had them."""
    (statement,) = of_source(
        "one.py", 'SQL = "UPDATE events e SET state = p.state FROM planned p WHERE e.id = ANY($1) AND e.id = p.id"'
    )
    assert is_named_twice(statement)
