"""Where the time of processes goes: their CPU, and samples taken from outside by py-spy if that is on the PATH."""

import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ops.bench.proc import cpu_seconds, family
from ops.bench.statements import Statements
from ops.bench.stores import BenchStores


_LINES: Final = 20
_RATE: Final = 200
_OURS: Final = ("(ingress/", "(workers/", "(shared/")


class Profiles:
    """Collects profiles while ``wanted``; without py-spy it says so instead."""

    def __init__(self, stores: BenchStores, folder: Path, *, wanted: bool) -> None:
        self._stores = stores
        self._folder = folder
        self._program = shutil.which("py-spy") if wanted else None
        self._lines: list[str] = []
        if wanted and self._program is None:
            self._lines.append("no profile: py-spy is not on the PATH (pip install py-spy)")

    @property
    def active(self) -> bool:
        """Whether there is anything to take a profile with, and a wish for one."""
        return self._program is not None

    @contextmanager
    def of(self, **pids: int) -> Iterator[None]:
        """Sample these processes (named) during the block, count the servers' CPU and Postgres' statements."""
        if self._program is None:
            yield
            return
        counted = {
            **{name: [pid] for name, pid in pids.items()},
            **{each.name: family(each.process.pid) for each in self._stores.servers if each.process},
        }
        sampling = [(name, *self._sample(name, pid)) for name, pid in pids.items()]
        statements = Statements(self._stores)
        began, used = time.monotonic(), {name: cpu_seconds(each) for name, each in counted.items()}
        try:
            yield
        finally:
            wall = time.monotonic() - began
            for name, each in counted.items():
                share = 100 * (cpu_seconds(each) - used[name]) / wall
                self._lines.append(f"{name}: {share:.0f} % of a core over {wall:.1f} s")
            self._lines += statements.lines()
            for name, file, process in sampling:
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=60)
                text = file.read_text(encoding="utf-8") if file.exists() else ""
                self._lines += summary(name, text, wall) if text else [f"{name}: {said.decode().strip()}"]

    def take(self) -> list[str]:
        """The lines collected so far, handed over."""
        taken, self._lines = self._lines, []
        return taken

    def _sample(self, name: str, pid: int) -> tuple[Path, subprocess.Popen[bytes]]:
        file = self._folder / f"{name}.stacks"
        options = f"record --gil --function --format raw --rate {_RATE} --duration 3600 --pid {pid} --output"
        command = [str(self._program), *options.split(), str(file)]
        return file, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603 - our list


def summary(name: str, stacks: str, seconds: float) -> Sequence[str]:
    """Percent of the time in which a function held the interpreter: by itself, and with all that it called (ours only).

    ``stacks`` are py-spy's: ``outermost;...;innermost count`` a line.
    """
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            if any(place in frame for place in _OURS):
                below[frame] += int(count)
    whole = seconds * _RATE

    def told(counts: Counter[str], what: str) -> list[str]:
        return [f"{name} {what} {100 * count / whole:5.1f} %  {frame}" for frame, count in counts.most_common(_LINES)]

    return [*told(own, "itself  "), *told(below, "together")]
