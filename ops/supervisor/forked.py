"""Commands of ours as processes that begin as a fork of one which has their modules loaded.

To import them takes 0.6 s of a core each time, just when ingress is missing. The process that is forked from is the
standard library's fork server; it is started with the first of them, and again if it died.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import reduction
from pathlib import Path
from typing import Any, Final, NamedTuple

from ops.supervisor.alive import started_at
from ops.supervisor.launch import call_oneself, end_with, give_way
from ops.supervisor.process import Program


_SERVER: Final = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["ops.supervisor.preloading"])


class Forked:
    """A running command, with the face of ``Process``; ``arguments`` are what follows ``penstock``.

    To be started from the main thread: the kernel ends the fork server with the thread that started it, and what was
    forked from it with the fork server.
    """

    def __init__(self, program: Program, arguments: Sequence[str]) -> None:
        self.program = program
        program.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        orders = _Orders(
            name=program.name,
            arguments=arguments,
            environment=program.environment,
            log=program.log,
            descriptors=tuple(map(_Descriptor, program.descriptors)),
            stop_signal=program.stop_signal,
            niceness=program.niceness,
        )
        self._process = _SERVER.Process(target=_run, args=(orders,), name=program.name)
        with _in(program.environment):
            self._process.start()
        self.pid = self._process.pid or 0
        self.started = started_at(self.pid) or 0
        self._status: int | None = None

    def ended(self) -> int | None:
        """The exit status (or minus a signal's number) once it has ended; what it left in its group is killed then."""
        if self._status is None and (status := self._process.exitcode) is not None:
            # Once: later the number may be another group's.
            self._kill_group()
            self._status = status
        return self._status

    def stop(self) -> None:
        """Ask it to end in its own way."""
        if self.ended() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, self.program.stop_signal)

    def kill(self) -> None:
        """End it and its whole group at once."""
        if self.ended() is None:
            self._kill_group()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        self._process.join(seconds)
        return self.ended() is not None

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class _Descriptor(NamedTuple):
    """An open file that is handed on under its own number."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _Handed, (self.number, reduction.DupFd(self.number))


class _Handed(NamedTuple):
    """What a descriptor is at the other end."""

    number: int
    copy: Any

    def take(self) -> None:
        """Open it."""
        given = self.copy.detach()
        if given != self.number:
            os.dup2(given, self.number)
            os.close(given)


class _Orders(NamedTuple):
    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    descriptors: Sequence[Any]
    stop_signal: signal.Signals
    niceness: int


def _run(orders: _Orders) -> None:
    """Be the command, in the new process."""
    from ops.cli import main  # noqa: PLC0415 - only the new process is a command
    from ops.supervisor.preloading import SERVER_PID  # noqa: PLC0415 - to be loaded by the fork server alone

    # A session of its own keeps a terminal's Ctrl-C from it: the supervisor decides who ends when.
    os.setsid()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    end_with(SERVER_PID, orders.stop_signal)
    # One that died before the fork server asked the kernel to be ended with it takes nobody along.
    if not ((supervisor := multiprocessing.parent_process()) and supervisor.is_alive()):
        sys.exit("the supervisor is gone")
    call_oneself(orders.name)
    if orders.niceness:
        give_way(orders.niceness)
    output = os.open(orders.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    for descriptor in orders.descriptors:
        descriptor.take()
    os.environ.clear()
    os.environ.update(orders.environment)
    sys.argv = ["penstock", *orders.arguments]
    main()


@contextmanager
def _in(environment: Mapping[str, str]) -> Iterator[None]:
    """Have this environment for as long as a fork server may be started: prometheus-client looks when it is loaded."""
    kept = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
