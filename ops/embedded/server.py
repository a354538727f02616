"""A server program that Penstock starts for itself: on loopback, on a free port, with a password, kept between runs."""

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import msgspec

from ops.supervisor.alive import alive
from ops.supervisor.logs import rotate, tail
from ops.supervisor.private import write_private
from ops.supervisor.process import Process, Program
from shared.errors import StoreAway


HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 2.0
_POLL_SECONDS = 0.03


class _Run(msgspec.Struct):
    """What is noted of a started server, so that the next run finds what a killed run left behind."""

    pid: int
    started: int
    port: int


class EmbeddedServer(ABC):
    """One server and its data below ``data``. A context manager: started on entry, stopped on exit."""

    name: ClassVar[str]
    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, data: Path) -> None:
        self.data = data = data.absolute()
        self.folder = data / self.name
        self.log = data / "logs" / f"{self.name}.log"
        self.port = 0
        self.process: Process | None = None
        self._note = data / "run" / f"{self.name}.json"

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers, with its password."""

    @abstractmethod
    def prepare(self) -> None:
        """Make its folder ready to be started on. Raises SettingsError where it cannot be run at all."""

    @abstractmethod
    def program(self) -> Program:
        """What to run, on ``self.port``."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes commands now."""

    def start(self) -> Process:
        """Prepare, start and wait until it answers. Raises StoreAway with the end of its log, SettingsError."""
        for folder in (self.data, self._note.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotate(self.log)
        before = self._end_what_was_left()
        self.prepare()
        for preferred in (before, 0, 0):  # between finding a free port and taking it, another program may take it
            self.port = _free_port(preferred)
            process = self.spawn()
            if self._answering(process):
                return process
            if "Address already in use" not in tail(self.log, 30):
                break
        raise self.failure()

    def failure(self) -> StoreAway:
        """The error of a start that did not succeed, with the end of the log."""
        told = tail(self.log)
        advice = f"\n{self.advice()}" if "denied" in told or "may not" in told else ""
        return StoreAway(f"the embedded {self.title} did not start; its log {self.log} ends with:\n{told}{advice}")

    def advice(self) -> str:
        """What to do when it was denied something."""
        return f"{self.data} must be a folder that you may write in: set PENSTOCK_DATA_DIR to another"

    def spawn(self) -> Process:
        """Start it on the port that it has, without waiting; also how the supervisor starts a dead one again."""
        self.process = process = Process(self.program())
        write_private(self._note, msgspec.json.encode(_Run(process.pid, process.started, self.port)))
        return process

    def stop(self) -> None:
        """End it in its own way, and by force when that takes too long."""
        if self.process and self.process.ended() is None:
            self.process.stop()
            if not self.process.wait(STOP_SECONDS):
                self.process.kill()
                self.process.wait(STOP_SECONDS)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answering(self, process: Process) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.ended() is None:
            if self.answers():
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _end_what_was_left(self) -> int:
        """End the server of a run that was killed and is still going down; the port that it had, or 0."""
        try:
            run = msgspec.json.decode(self._note.read_bytes(), type=_Run)
        except (FileNotFoundError, msgspec.DecodeError):
            return 0
        for number in (self.stop_signal, signal.SIGKILL):
            if alive(run.pid, run.started):
                with suppress(ProcessLookupError):
                    os.kill(run.pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while alive(run.pid, run.started) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        return run.port


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            found: int = probe.getsockname()[1]
            return found
    raise StoreAway(f"no port is free on {HOST}")
