"""One program as a process of ours: started apart from the terminal, ended with us, its output in a file."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ops.supervisor.alive import started_at


LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a program runs as, when that is not who we are."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. ``argv[0]`` is an absolute path; ``environment`` is the whole of it."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    port: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    owner: Owner | None = None
    descriptors: tuple[int, ...] = ()
    """Open files that it inherits under the same numbers."""
    niceness: int = 0
    """How far it stands back from the processor behind the others; 19 is the furthest."""


class Running(Protocol):
    """A process of ours, however it was started."""

    pid: int
    started: int

    def ended(self) -> int | None:
        """The exit status (or minus a signal's number) once it has ended."""

    def stop(self) -> None:
        """Ask it to end in its own way."""

    def kill(self) -> None:
        """End it and its whole group at once."""

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""


def launched(argv: Sequence[str], stop_signal: signal.Signals, owner: Owner | None, niceness: int = 0) -> list[str]:
    """The command that becomes ``argv`` and is sent ``stop_signal`` when this process ends, however it ends."""
    who = f"{owner.uid}:{owner.gid}" if owner else "-"
    ours = [str(os.getpid()), str(int(stop_signal)), who, str(niceness)]
    return [sys.executable, "-I", "-S", str(LAUNCHER), *ours, *argv]


class Process:
    """A running program. To be started from the main thread: the kernel ends it with the thread that started it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        program.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            # A session of its own keeps a terminal's Ctrl-C from it: the supervisor decides who ends when.
            self._popen = subprocess.Popen(  # noqa: S603 - the argument list is ours, no shell is involved
                launched(program.argv, program.stop_signal, program.owner, program.niceness),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(program.environment),
                pass_fds=program.descriptors,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self.started = started_at(self.pid) or 0

    def ended(self) -> int | None:
        """The exit status (or minus a signal's number) once it has ended; what it left in its group is killed then."""
        if self._popen.returncode is None:
            # Until it is waited for, its number names this group and no other.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.kill()
            self._popen.wait()
        return self._popen.returncode

    def stop(self) -> None:
        """Ask it to end in its own way."""
        self._send(self.program.stop_signal)

    def kill(self) -> None:
        """End it and its whole group at once."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self.ended() is not None

    def _send(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            self._popen.send_signal(number)
