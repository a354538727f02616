"""The small parts of the supervisor, each alone."""

import asyncio
import io
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.console import Console

from ops.supervisor.alive import alive, started_at
from ops.supervisor.children import Child
from ops.supervisor.counts import Counts, ReadCounts, line, table
from ops.supervisor.logs import bound, rotate, tail
from ops.supervisor.ports import reachable
from ops.supervisor.private import kept_secret, write_private
from ops.supervisor.process import Process, Program
from ops.supervisor.screen import Screen
from shared.errors import StoreAway
from support.conditions import HANG_SECONDS, until


COUNTS: Counts = [
    {"provider": "imin", "events": {"done": 3, "waiting": 1, "parked": 2}, "oldest_due_seconds": 12.34},
    {"provider": "paybook", "events": {}, "oldest_due_seconds": None},
]


def _program(log: Path, code: str) -> Program:
    return Program(name="one", argv=[sys.executable, "-c", code], environment={}, log=log)


def test_a_log_is_kept_for_one_more_run_and_cut_where_it_grew(tmp_path: Path) -> None:
    """Rotation moves it aside; the bound cuts it under a writer, who goes on at its new end."""
    log = tmp_path / "logs" / "one.log"
    rotate(log)
    log.write_text("of the first run\n")
    rotate(log)
    assert "of the first run\n" == log.with_name("one.log.1").read_text()
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        bound([log], most=50)
        writer.write(b"a\nb\nc\n")
    assert "a\nb\nc\n" == log.read_text()
    assert "x" * 100 == log.with_name("one.log.1").read_text()
    assert "b\nc" == tail(log, 2)
    assert "" == tail(tmp_path / "none.log")


def test_a_secret_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    """The first value stays; no other user may read it; nothing else is left in the folder."""
    file = tmp_path / "new" / "secret"
    assert ["first", "first"] == [kept_secret(file, lambda: "first"), kept_secret(file, lambda: "second")]
    write_private(file, b"third")
    assert b"third" == file.read_bytes()
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(file.parent.iterdir())


def test_a_process_is_known_by_its_number_and_its_start(tmp_path: Path) -> None:
    """The same number with another start is another process; an ended one is not alive, waited for or not."""
    process = Process(_program(tmp_path / "log", "import time; time.sleep(1000)"))
    assert alive(process.pid, process.started)
    assert not alive(process.pid, process.started + 1)
    process.kill()
    until(lambda: started_at(process.pid) is None, otherwise="a zombie counts as alive")
    assert process.wait(HANG_SECONDS)


def test_a_child_that_keeps_dying_is_given_longer_pauses(tmp_path: Path) -> None:
    """Each death is told with its cause and the last line of the log; the pause doubles."""
    child = Child(_program(tmp_path / "log", "import sys; sys.exit('no more ink')"))
    child.start()
    told: list[str] = []

    def twice_dead() -> bool:
        if said := child.tend():
            told.append(said)
        return len(told) == 3

    until(twice_dead, otherwise="it was not started again")
    assert f"one ended (exit status 1); started again in 0.5 s. {tmp_path / 'log'}: no more ink" == told[0]
    assert "one ended (exit status 1); started again in 1 s." in told[2]


def test_a_child_that_served_for_a_while_is_started_again_soon_each_time(tmp_path: Path) -> None:
    """The pause grows only for one that dies soon after its start, not for one that is killed again and again."""
    child = Child(_program(tmp_path / "log", "import sys; sys.exit('no more ink')"), steady_seconds=0.0)
    child.start()
    told: list[str] = []

    def three_times_dead() -> bool:
        if said := child.tend():
            told.append(said)
        return len(told) == 5

    until(three_times_dead, otherwise="it was not started again")
    assert ["started again in 0.5 s" in said for said in told] == [True, False, True, False, True]


def test_counts_are_a_line_for_a_log_and_a_table_for_a_terminal() -> None:
    """Both name every column; an age that is not known is a dash."""
    assert (
        "imin received 6 done 3 waiting 1 failed 0 parked 2 duplicate 0 due 12.3 s | "
        "paybook received 0 done 0 waiting 0 failed 0 parked 0 duplicate 0 due -"
    ) == line(COUNTS)
    console = Console(width=120, file=io.StringIO())
    console.print(table(COUNTS))
    assert isinstance(console.file, io.StringIO)
    rows = [row.split() for row in console.file.getvalue().splitlines()]
    assert ["imin", "6", "3", "1", "0", "2", "0", "12.3", "s"] == rows[1]
    assert ["paybook", "0", "0", "0", "0", "0", "0", "-"] == rows[2]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_screen_outlives_a_store_that_is_away(*, terminal: bool) -> None:
    """A failure to read is one sentence, not the end of the pipeline."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)

    @asynccontextmanager
    async def open_counts(_database_url: str, _redis_url: str) -> AsyncIterator[ReadCounts]:
        answers = iter([COUNTS])

        async def read() -> Counts:
            for answer in answers:
                return answer
            raise StoreAway("Postgres is away")

        yield read

    async def until_told() -> None:
        showing = asyncio.ensure_future(Screen(console, seconds=0.01).show_counts(open_counts, "", ""))
        while "The counts cannot be read: Postgres is away" not in console.file.getvalue():  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
            assert not showing.done()
        showing.cancel()

    asyncio.run(asyncio.wait_for(until_told(), HANG_SECONDS))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.7", "10.0.0.7"), ("fd00::1", "[fd00::1]")],
)
def test_an_address_to_listen_on_is_made_one_to_ask(host: str, expected: str) -> None:
    """All interfaces are asked on loopback; IPv6 stands in brackets."""
    assert expected == reachable(host)
