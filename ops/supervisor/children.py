"""The children of the supervisor: started again when they die, stopped in order."""

import asyncio
import time
from collections.abc import Callable, Sequence

from ops.supervisor.logs import tail
from ops.supervisor.process import Process, Program


FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 30.0
_POLL_SECONDS = 0.05


class Child:
    """One process that is to run until it is told to stop. One that keeps dying gets longer and longer pauses."""

    def __init__(
        self, program: Program, spawn: Callable[[], Process] | None = None, process: Process | None = None
    ) -> None:
        self.program = program
        self.process = process
        self._spawn = spawn or (lambda: Process(program))
        self._pause = FIRST_PAUSE_SECONDS
        self._begun = 0.0
        self._due: float | None = None

    def start(self) -> Process:
        """Start it now."""
        self._due = None
        self._begun = time.monotonic()
        self.process = self._spawn()
        return self.process

    @property
    def ended(self) -> int | None:
        """Its exit status, when it does not run."""
        return self.process.ended() if self.process else None

    def tend(self) -> str:
        """Start it again when it died and its pause is over. A sentence if there is something to tell, else empty."""
        now = time.monotonic()
        if self._due is None:
            if (status := self.ended) is None:
                return ""
            if now - self._begun > STEADY_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS
            self._due = now + self._pause
            said = f"{self.program.name} ended ({described(status)}); started again in {self._pause:g} s."
            self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
            return f"{said} {self.program.log}: {tail(self.program.log, 1)}".strip()
        if now >= self._due:
            process = self.start()
            return f"{self.program.name} is started again (process {process.pid})."
        return ""


def described(status: int) -> str:
    """An exit status in words."""
    return f"signal {-status}" if status < 0 else f"exit status {status}"


async def stop(children: Sequence[Child], seconds: float) -> None:
    """Ask all of them to end and wait so long at most."""
    for child in children:
        if child.process:
            child.process.stop()
    deadline = time.monotonic() + seconds
    while any(child.process and child.ended is None for child in children):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(_POLL_SECONDS)


def kill(children: Sequence[Child]) -> None:
    """End what still runs."""
    for child in children:
        if child.process and child.ended is None:
            child.process.kill()
            child.process.wait(seconds=1)
