"""Starting `penstock up` as a process and looking at it from outside."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.installation import Installation, running
from ops.supervisor.alive import alive, started_at
from support.conditions import HANG_SECONDS, until


FREE_PORTS = {f"PENSTOCK_{name}_PORT": "0" for name in ("INGRESS", "CONSOLE", "FLOWER", "METRICS")}


class Up:
    """A `penstock up` in a folder of its own, its output in ``output``."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.data = folder / "data"
        self.file = folder / "output"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "FLOWER_"))}
        command = [sys.executable, str(Path(__file__).with_name("run_up.py")), *arguments]
        with self.file.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean, **FREE_PORTS, "PENSTOCK_DATA_DIR": str(self.data), **settings},
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self.file.read_text(encoding="utf-8")

    def ready(self) -> Installation:
        """Wait until it is ready; what it noted."""
        until(lambda: "Penstock is ready." in self.output or self.process.poll() is not None, otherwise="not ready")
        found = running(self.data)
        assert found, self.output
        return found

    def ended(self, seconds: float = HANG_SECONDS) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(seconds)


@contextmanager
def started(folder: Path, *arguments: str, **settings: str) -> Iterator[Up]:
    """A `penstock up` that is ended at the end of the test, whatever happened."""
    up = Up(folder, *arguments, **settings)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGTERM)
            try:
                up.process.wait(HANG_SECONDS)
            except subprocess.TimeoutExpired:
                up.process.kill()
                up.process.wait()


def family(pid: int) -> set[tuple[int, int]]:
    """Every process below this one, each with its start time."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found: set[tuple[int, int]] = set()
    waiting = list(parents.get(pid, ()))
    while waiting:
        child = waiting.pop()
        waiting.extend(parents.get(child, ()))
        if (started := started_at(child)) is not None:
            found.add((child, started))
    return found


def living(processes: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of them that still run."""
    return {each for each in processes if alive(*each)}
