"""The change feed's numbers keep up with a backlog, and outlive a dump and restore."""

import asyncio
import os
import subprocess
from pathlib import Path

import asyncpg
import pytest

from ops.embedded.postgres import programs
from shared.store import erasing
from shared.store.erasing import HeldChange
from shared.store.records.numbering import number_backlog, number_changes
from support.conditions import HANG_SECONDS


pytestmark = pytest.mark.anyio

CHANGE = """
    INSERT INTO changes (op, provider, account, kind, external_id, changed)
    VALUES ('created', 'imin', 'main', 'thing', $1, '{}')
"""


async def test_a_backlog_is_numbered_in_one_go(database_url: str) -> None:
    """A large import must not wait for its numbers round by round; the time bounds it, so that other work goes on."""
    db = await asyncpg.connect(database_url)
    await db.execute(
        """
        INSERT INTO changes (op, provider, account, kind, external_id, changed)
        SELECT 'created', 'imin', 'main', 'thing', number::text, '{}' FROM generate_series(1, 25) AS number
        """
    )

    first = await number_backlog(db, 0.0, at_once=10)
    others = await number_backlog(db, 60.0, at_once=10)
    feed = await db.fetch("SELECT seq, external_id FROM changes ORDER BY seq")
    await db.close()

    assert (10, 15) == (first, others)
    assert [(number, str(number)) for number in range(1, 26)] == [tuple(row) for row in feed]


async def test_a_dump_and_restore_hides_no_entry(database_url: str, tmp_path: Path) -> None:
    """Entries numbered before, numbered only after, and written after the restore: all in order, none below another."""
    before = await asyncpg.connect(database_url)
    await before.executemany(CHANGE, [["a"], ["b"]])
    await number_changes(before)
    await before.execute(CHANGE, "not numbered yet")
    empty = database_url.replace("test_", "restored_")
    await before.execute(f"CREATE DATABASE {empty.rpartition('/')[2]} TEMPLATE template0")
    await before.close()

    dump = tmp_path / "dump"
    for program, *arguments in (
        ("pg_dump", "--format=custom", f"--file={dump}", database_url),
        ("pg_restore", "--exit-on-error", f"--dbname={empty}", str(dump)),
    ):
        command = [str(programs() / program), *arguments]
        await asyncio.to_thread(subprocess.run, command, check=True, env={"PATH": os.defpath}, timeout=HANG_SECONDS)
    after = await asyncpg.connect(empty)
    await after.execute(CHANGE, "written after")
    await number_changes(after)
    feed = await after.fetch("SELECT seq, external_id FROM changes ORDER BY seq")
    await after.close()

    assert ["a", "b", "not numbered yet", "written after"] == [row["external_id"] for row in feed]
    assert [1, 2, 3, 4] == [row["seq"] for row in feed]


async def test_an_erasure_beside_the_numbering_leaves_the_order_of_a_records_changes(database_url: str) -> None:
    """Previous values are removed from a change without a number; the record's next change gets the higher one."""
    db, eraser = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    await db.executemany(CHANGE, [["a"], ["a"]])
    first, second = await db.fetch("SELECT * FROM changes ORDER BY id")
    async with eraser.transaction():
        held = HeldChange(first["id"], "thing", "a", None, None, first["at"], of_nothing=False)
        await erasing.forget_before(eraser, [held])
        numbering = asyncio.create_task(number_changes(db))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while not await eraser.fetchval(waits):
            await eraser.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)
    await numbering
    await number_changes(db)
    feed = await db.fetch("SELECT id FROM changes ORDER BY seq")
    await eraser.close()
    await db.close()

    assert [first["id"], second["id"]] == [row["id"] for row in feed]
