"""Replays whose process is killed in their midst (SIGKILL), again and again: resumed, each is done once."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.conftest import Store, handler
from handlers.receiving import Message, receiving
from installation import ROOT, clean_environment
from support.conditions import until
from workers.hand_over.delivering import HandingOver


Handing = Callable[[str], HandingOver]

COUNT = 600
RECORDS = 7
KILLS = 3


class Penstock:
    """The command line beside a test's own store."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a command."""
        variables = {"PENSTOCK_DATABASE_URL": self._store.url, "PENSTOCK_CONFIG": str(self._folder / "penstock.toml")}
        return subprocess.Popen(
            [sys.executable, "-m", "ops", *arguments],
            env={**clean_environment(ROOT), **variables},
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def replayed(self) -> int:
        """How many rows the replays of this store have done."""
        rows = self._store.run("SELECT sum(value::int) AS done FROM replays, jsonb_each_text(counts)")
        return int(rows[0]["done"] or 0)

    def kill_and_resume(self, *arguments: str) -> None:
        """The same command again and again, killed each time in its midst, at last left to come to its end."""
        chance = random.Random(6)  # noqa: S311 - a test that repeats
        for _ in range(KILLS):
            done = self.replayed()
            with self.start(*arguments, "--rate", "25/s") as process:
                until(lambda: self.replayed() > done)  # noqa: B023 - awaited within this turn
                time.sleep(chance.random() / 2)  # any moment of a batch or of a pause
                process.send_signal(signal.SIGKILL)
                assert -signal.SIGKILL == process.wait(), "it was to be killed before its end"
        with self.start(*arguments) as process:
            assert 0 == process.wait()


@pytest.fixture
def penstock(store: Store, tmp_path: Path) -> Penstock:
    """The command line."""
    return Penstock(store, tmp_path)


@contextmanager
def _handing_over(step: HandingOver) -> Iterator[None]:
    """Hand over what is due all the while."""
    finished = threading.Event()

    def hand_over() -> None:
        while not finished.is_set():
            step.run("crm")
            time.sleep(0.05)

    worker = threading.Thread(target=hand_over)
    worker.start()
    try:
        yield
    finally:
        finished.set()
        worker.join()


def _in_order(messages: Sequence[Message]) -> Counter[str]:
    """How often each came; of each record they came in the order of the feed."""
    seqs: dict[str, list[int]] = {}
    for message in messages:
        seqs.setdefault(message.data["external_id"], []).append(message.data["seq"])
    assert all(sorted(each) == each for each in seqs.values())
    return Counter(message.id for message in messages)


def _finished(store: Store) -> bool:
    return set(store.states()) == {"done"}


def _counts(store: Store) -> list[Any]:
    return [
        (row["counts"], row["over"]) for row in store.run("SELECT counts, finished_at IS NOT NULL AS over FROM replays")
    ]


def test_hand_overs_that_are_replayed_come_once_more_each(store: Store, handing: Handing, penstock: Penstock) -> None:
    """Delivered meanwhile: nothing is sent a third time, nothing is left out, and of a record all is in order."""
    store.change(COUNT, records=RECORDS)
    with receiving() as app:
        step = handing(handler(app.url))
        with _handing_over(step):
            until(lambda: store.states() == {"done": COUNT})
            penstock.kill_and_resume("handovers", "replay", "--handler", "crm")
            until(lambda: _finished(store))
        first, again = _in_order(app.got[:COUNT]), _in_order(app.got[COUNT:])
    assert Counter(dict.fromkeys(first, 1)) == first
    assert first == again
    assert [(f'{{"replayed": {COUNT}}}', True)] == _counts(store)


def test_what_a_handler_never_had_comes_once(store: Store, handing: Handing, penstock: Penstock) -> None:
    """Made while the process that makes it is killed: each change once, in the order of its record."""
    store.change(COUNT, records=RECORDS)
    with receiving() as app:
        step = handing(handler(app.url).replace("beginning", "now"))
        with _handing_over(step):
            until(lambda: store.run("SELECT cursor FROM handlers"))
            penstock.kill_and_resume("handovers", "replay", "--handler", "crm", "--missing")
            until(lambda: store.states() == {"done": COUNT})
        came = _in_order(app.got)
    assert COUNT == len(came)
    assert {1} == set(came.values())
    assert [(f'{{"made": {COUNT}}}', True)] == _counts(store)


def test_events_that_are_replayed_are_planned_once_more_each(store: Store, penstock: Penstock) -> None:
    """Each has one entry in its timeline, and is received again."""
    store.run(
        """
        INSERT INTO events (id, provider, account, state, durability, content_type, headers, body, body_bytes,
                            body_sha256, finished_at)
        SELECT gen_random_uuid(), 'imin', 'main', 'done', 'postgres', '', '[]', '', 0, '', now()
        FROM generate_series(1, $1::int)
        """,
        COUNT,
    )
    penstock.kill_and_resume("events", "replay", "--provider", "imin")
    (row,) = store.run("SELECT count(*) AS entries, count(DISTINCT event_id) AS events FROM timeline")
    assert (COUNT, COUNT) == tuple(row)
    assert [("received", COUNT)] == [tuple(row) for row in store.run("SELECT state, count(*) FROM events GROUP BY 1")]
    assert [(f'{{"replayed": {COUNT}}}', True)] == _counts(store)
