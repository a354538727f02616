"""``penstock changes tail`` and the numbering behind it: a reader that pages by seq never misses an entry."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec

from operators.conftest import clean_environment
from operators.rows import change, new_id
from shared.store.records.numbering import number_changes
from support.conditions import HANG_SECONDS


KEYS = ["seq", "op", "provider", "account", "kind", "external_id", "changed", "event_id", "at", "id"]


def test_a_change_has_the_keys_of_the_contract_and_a_number(store: Any, penstock: Any) -> None:
    """Changes that no sequencer has come to yet are numbered before they are read."""
    event_id = new_id()
    store.run(change("abc", op="created", event_id=event_id, changed=["customer", "accessPass"]), change("abd"))
    result = penstock("changes", "tail", "--json")
    first, second = result.lines
    assert (0, "") == (result.status, result.errors)
    assert KEYS == list(first)
    at = first.pop("at")
    assert at.endswith("Z")
    assert re.fullmatch("chg_[0-9a-f]{32}", first.pop("id"))
    assert {
        "seq": 1,
        "op": "created",
        "provider": "imin",
        "account": "main",
        "kind": "imin.customer-account",
        "external_id": "abc",
        "changed": ["customer", "accessPass"],
        "event_id": str(event_id),
    } == first
    assert (2, None) == (second["seq"], second["event_id"])


def test_the_last_fifty_changes_are_shown_and_all_behind_a_seq(store: Any, penstock: Any) -> None:
    """Always in the order of seq: the last 50, the last N, all, or those behind --after."""
    store.run(*(change(str(number)) for number in range(60)))
    for arguments, expected in (
        ((), range(11, 61)),
        (("--limit", 2), range(59, 61)),
        (("--limit", 0), range(1, 61)),
        (("--after", 0), range(1, 61)),
        (("--after", 57), range(58, 61)),
        (("--after", 10, "--limit", 2), range(11, 13)),
        (("--after", 60), range(0)),
    ):
        assert list(expected) == [row["seq"] for row in penstock("changes", "tail", *arguments, "--json").lines]


def test_following_shows_what_comes_later_and_ends_quietly_with_ctrl_c(store: Any) -> None:
    """New changes appear while it runs; an interrupt is no error message and has status 130."""
    store.run(change("before"))
    with _following(store.url) as process:
        assert process.stdout is not None
        assert "before" == msgspec.json.decode(process.stdout.readline())["external_id"]
        store.run(change("after"))
        assert "after" == msgspec.json.decode(process.stdout.readline())["external_id"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANG_SECONDS)
    assert (130, b"") == (process.returncode, errors)


def test_a_late_commit_gets_a_later_number(store: Any) -> None:
    """An entry whose transaction was open while later ones were numbered comes after them, not between them."""

    async def run() -> list[tuple[str, int]]:
        slow, sequencer = await asyncpg.connect(store.url), await asyncpg.connect(store.url)
        try:
            late = slow.transaction()
            await late.start()
            await slow.execute(*change("late"))
            await sequencer.execute(*change("early"))
            assert 1 == await number_changes(sequencer)
            await late.commit()
            assert 1 == await number_changes(sequencer)
            assert 0 == await number_changes(sequencer)
            rows = await sequencer.fetch("SELECT external_id, seq FROM changes ORDER BY id")
            return [tuple(row) for row in rows]
        finally:
            await slow.close()
            await sequencer.close()

    assert [("late", 2), ("early", 1)] == asyncio.run(run())


def test_a_reader_that_pages_by_seq_misses_nothing_while_others_write_and_number(store: Any) -> None:
    """Eight writers with transactions of odd lengths, three sequencers, one reader: it sees every change once."""
    writers, each = 8, 60
    seen: list[str] = []
    seqs: list[int] = []

    async def write(number: int) -> None:
        async with _connected(store.url) as connection:
            for entry in range(each):
                async with connection.transaction():
                    await connection.execute(*change(f"{number}-{entry}"))
                    if (number + entry) % 3 == 0:
                        await connection.execute("SELECT pg_sleep(0.004)")

    async def number_until(done: asyncio.Event) -> None:
        async with _connected(store.url) as connection:
            while not done.is_set():
                await number_changes(connection, limit=7)

    async def read() -> None:
        async with _connected(store.url) as connection:
            last = 0
            while len(seen) < writers * each:
                for row in await connection.fetch(
                    "SELECT seq, external_id FROM changes WHERE seq > $1 ORDER BY seq", last
                ):
                    last = row["seq"]
                    seqs.append(last)
                    seen.append(row["external_id"])

    async def run() -> None:
        done = asyncio.Event()
        sequencers = [asyncio.create_task(number_until(done)) for _ in range(3)]
        reader = asyncio.create_task(read())
        await asyncio.gather(*(write(number) for number in range(writers)))
        try:
            await asyncio.wait_for(reader, HANG_SECONDS)
        finally:
            done.set()
            await asyncio.gather(*sequencers)

    asyncio.run(run())
    assert writers * each == len(set(seen))
    assert sorted(seqs) == seqs


@contextlib.asynccontextmanager
async def _connected(url: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.contextmanager
def _following(url: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "ops", "changes", "tail", "--follow", "--json"]
    environment = clean_environment({"PENSTOCK_DATABASE_URL": url})
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
