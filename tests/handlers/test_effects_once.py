"""An unhelpful application, killed twice: every change's effect exactly once, in the order of each record."""

import asyncio
import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg

from handlers.conftest import SECRET, Store, handler
from handlers.receiving import Reply, receiving
from shared.providers.interface import Record
from shared.store.records.numbering import number_changes
from shared.store.records.recording import apply
from shared.store.records.sighting import Sighting
from support.conditions import until
from workers.hand_over.delivering import HandingOver


Handing = Callable[[str], HandingOver]

CHANGES = int(os.environ.get("PENSTOCK_TEST_HANDOVERS", "1000"))
"""20,000 takes minutes; the behaviour is the same."""

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def _application(port: int, database: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "handlers.unhelpful_application", str(port), str(database), SECRET],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            until(lambda: _listens(port))
            yield process
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_each_effect_exactly_once_in_order_whatever_the_application_does(
    store: Store, handing: Handing, tmp_path: Path
) -> None:
    """It fails three times of ten, half of those after the effect, is slow, and is killed twice in the middle."""
    records = CHANGES // 5
    store.change(CHANGES, records=records)
    port, database = _free_port(), tmp_path / "effects.sqlite"
    step = handing("[retry]\nbase_seconds = 0.05\nmax_attempts = 50\n" + handler(f"http://127.0.0.1:{port}/"))
    finished = threading.Event()

    def hand_over() -> None:
        while not finished.is_set():
            step.run("crm")
            time.sleep(0.05)

    def effects() -> int:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            found: int = connection.execute("SELECT count(*) FROM effects").fetchone()[0]
            return found

    worker = threading.Thread(target=hand_over)
    worker.start()
    try:
        for share in (3, 2):
            with _application(port, database):
                until(lambda share=share: effects() >= CHANGES // share, 600)
        with _application(port, database):
            until(lambda: store.states() == {"done": CHANGES}, 1200, otherwise=store.states)
    finally:
        finished.set()
        worker.join()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT record, seq FROM effects ORDER BY n").fetchall()
        messages = connection.execute("SELECT count(*) FROM messages").fetchone()[0]
    by_record: dict[str, list[int]] = {}
    for record, seq in rows:
        by_record.setdefault(record, []).append(seq)
    assert list(range(1, CHANGES + 1)) == sorted(seq for _, seq in rows)
    assert records == len(by_record)
    assert all(sorted(seqs) == seqs for seqs in by_record.values())
    assert messages > CHANGES


def test_a_notification_has_one_id_ever(store: Store, handing: Handing) -> None:
    """A thousand answers show it; retention, and even a database set back to a backup, give it no other id."""
    record = Record("imin.update-notification", "n-1", '{"@id": "n-1"}', once=True)
    notification = Sighting("imin", "main", record, 1, None)

    async def show(times: int) -> None:
        connection = await asyncpg.connect(store.url)
        try:
            for turn in range(times):
                await apply(connection, [notification._replace(began=turn)])
            await number_changes(connection)
        finally:
            await connection.close()

    with receiving(lambda _: Reply(500 if len(app.got) == 1 else 204)) as app:
        step = handing(handler(app.url))
        asyncio.run(show(1000))
        step.run("crm")
        store.due()
        step.run("crm")
        store.run("DELETE FROM records")
        store.run("DELETE FROM changes")
        store.run("DELETE FROM handovers")
        asyncio.run(show(10))
        step.run("crm")
        assert 2 == len(app.got)
        # the backup was made before the notification came: it comes again, as what it was
        store.run("DELETE FROM once_marks")
        asyncio.run(show(1))
        step.run("crm")
    assert 3 == len(app.got)
    assert 1 == len({message.id for message in app.got})
