"""The faults that are played on processes are real, and end with the block."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.chaos.processes import family, frozen, limit_files
from support.conditions import until


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
for line in sys.stdin:
    try:
        with open(line.strip(), "ab", buffering=0) as file:
            file.write(b"x")
        print("written", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """A process with a child, that writes a byte into each file whose name it is told."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def told(process: subprocess.Popen[str], line: str = "") -> str:
    """What it answers to a line, or says by itself."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def state(pid: int) -> str:
    """One letter, as ``ps`` shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_family_is_frozen_and_goes_on(parent: subprocess.Popen[str]) -> None:
    """Also the children."""
    child = int(told(parent))

    assert [parent.pid, child] == family(parent.pid)
    with frozen([parent.pid]):
        until(lambda: [state(parent.pid), state(child)] == ["T", "T"])
    until(lambda: "T" not in {state(parent.pid), state(child)})


def test_a_full_disk_is_one_until_the_limit_is_lifted(parent: subprocess.Popen[str], tmp_path: Path) -> None:
    """A write fails, and succeeds afterwards."""
    told(parent)
    file = str(tmp_path / "file")

    assert "written" == told(parent, file)
    limit_files([parent.pid], 0)
    assert "File too large" == told(parent, file)
    limit_files([parent.pid], None)
    assert "written" == told(parent, file)
