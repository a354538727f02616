"""The stage of one benchmark: stores, a lab, subjects started beside each other, and the load."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from ops.bench.load import HOST, LONGEST_SECONDS, Order, Outcome
from ops.bench.profile import Profiles
from ops.bench.stores import BenchStores
from ops.lab.accounts import STUDIOS
from ops.lab.process import Lab, running_lab
from ops.supervisor.logs import tail
from ops.supervisor.process import Process, Program
from shared.errors import PenstockError


START_SECONDS: Final = 60.0
BYTES_AN_EVENT: Final = 2500
"""What an event takes on disk with all that belongs to it, its indexes, and the log of their making."""
_GIGABYTE: Final = 1e9
_POLL_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 5.0


class BenchFailed(PenstockError):
    """A subject did not do what a benchmark needs; the sentence says which and what it said last."""


class Stage:
    """What a benchmark works with; every process that it started ends with it."""

    def __init__(
        self,
        stores: BenchStores,
        folder: Path,
        *,
        quick: bool,
        profiles: Profiles,
        say: Callable[[str], None],
        stored: int | None = None,
    ) -> None:
        self.stores = stores
        self.quick = quick
        self.stored = stored
        """How many finished events are to be stored where a benchmark stores many; None: as it does by itself."""
        self.say = say
        self.profiles = profiles
        self.folder = folder / f"stage-{time.monotonic_ns()}"
        self._ends = ExitStack()
        self._processes: list[Process] = []
        self._expected: list[tuple[Callable[[], bool], str, tuple[Process, ...]]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What they held is thrown away with their database: nothing is to be handed over.
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(_STOP_SECONDS)
        self._ends.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def lab(self, *, latency: float = 0.0, studios: int = len(STUDIOS)) -> Lab:
        """A provider lab of this benchmark's own."""
        return self._ends.enter_context(running_lab(seed=1, latency=latency, studios=studios))

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> Process:
        """Start a program; it ends with the stage, its output is in the stage's folder."""
        process = Process(
            Program(
                name=name, argv=argv, environment=environment, log=self.folder / f"{name}-{len(self._processes)}.log"
            )
        )
        self._processes.append(process)
        return process

    def stop(self, process: Process) -> None:
        """End one program before the stage ends."""
        process.stop()
        if not process.wait(_STOP_SECONDS):
            process.kill()

    def until(
        self,
        condition: Callable[[], bool],
        what: str,
        *processes: Process,
        seconds: float = START_SECONDS,
        every: float = _POLL_SECONDS,
    ) -> None:
        """Wait until something is so. Raises BenchFailed when a process ends meanwhile, or it takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            for process in processes:
                if process.ended() is not None:
                    raise BenchFailed(f"{process.program.name} ended: {tail(process.program.log)}")
            if time.monotonic() > deadline:
                said = "; ".join(f"{process.program.name}: {tail(process.program.log, 3)}" for process in processes)
                raise BenchFailed(f"{what}: not within {seconds:g} s; {said}")
            time.sleep(every)

    def expect(self, condition: Callable[[], bool], what: str, *processes: Process) -> None:
        """Remember by what one sees that a started program is ready; ``ready`` waits for all of them together."""
        self._expected.append((condition, what, processes))

    def expect_listening(self, port: int, process: Process) -> None:
        """The program is ready when it takes connections."""
        self.expect(lambda: _listens(port), f"{process.program.name} on port {port}", process)

    def expect_room(self, stored: int) -> None:
        """A disk that fills up stops more than the bench. Raises BenchFailed."""
        needed, free = stored * BYTES_AN_EVENT / _GIGABYTE, shutil.disk_usage(self.folder).free / _GIGABYTE
        if free < needed:
            raise BenchFailed(
                f"{stored:,} finished events need about {needed:.0f} GB where the data directory is, and {free:.0f} GB"
                " are free; set PENSTOCK_DATA_DIR to a folder with more room"
            )

    def ready(self) -> None:
        """Wait until everything that was started is ready. Raises BenchFailed."""
        for condition, what, processes in self._expected:
            self.until(condition, what, *processes)
        self._expected.clear()
        self.say("all are ready")

    def load(self, order: Order) -> Outcome:
        """Run the load in a process of its own. Raises BenchFailed."""
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "ops.bench.load", msgspec.json.encode(order).decode()],
            check=False,
            capture_output=True,
            timeout=LONGEST_SECONDS + 60,
        )
        if done.returncode:
            raise BenchFailed(f"the load failed: {done.stderr.decode().strip()[-500:]}")
        outcome = msgspec.json.decode(done.stdout, type=Outcome)
        if outcome.lost or outcome.acknowledged < sum(outcome.statuses.values()):
            raise BenchFailed(
                f"not every request was acknowledged: {outcome.statuses}, {outcome.lost} without an answer"
            )
        return outcome


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
