"""The children of the supervisor: started again when they die, stopped in order."""

import asyncio
import time
from collections.abc import Callable, Sequence

from ops.supervisor.heartbeat import Heartbeat
from ops.supervisor.logs import tail
from ops.supervisor.process import Process, Program, Running


FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 5.0
"""One that ran for so long has served: it is not one that cannot start, and its next pause is the first one again."""
KILL_SECONDS = 5.0
"""How long a process that fell silent is given to end in its own way."""
_POLL_SECONDS = 0.05


class Child:
    """One process that is to run until it is told to stop. One that keeps dying gets longer and longer pauses.

    One with a ``heartbeat`` that falls silent is ended, and so started again.
    """

    def __init__(
        self,
        program: Program,
        spawn: Callable[[], Running] | None = None,
        process: Running | None = None,
        heartbeat: Heartbeat | None = None,
        steady_seconds: float = STEADY_SECONDS,
    ) -> None:
        self.program = program
        self.process = process
        self._heartbeat = heartbeat
        self._kill_at: float | None = None
        self._spawn = spawn or (lambda: Process(program))
        self._steady_seconds = steady_seconds
        self._pause = FIRST_PAUSE_SECONDS
        self._begun = 0.0
        self._due: float | None = None

    def start(self) -> Running:
        """Start it now."""
        self._due = self._kill_at = None
        self._begun = time.monotonic()
        if self._heartbeat:
            self._heartbeat.begin()
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
                return self._listen(now)
            if now - self._begun > self._steady_seconds:
                self._pause = FIRST_PAUSE_SECONDS
            self._due = now + self._pause
            said = f"{self.program.name} ended ({described(status)}); started again in {self._pause:g} s."
            self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
            return f"{said} {self.program.log}: {tail(self.program.log, 1)}".strip()
        if now >= self._due:
            process = self.start()
            return f"{self.program.name} is started again (process {process.pid})."
        return ""

    def _listen(self, now: float) -> str:
        """End it when it fell silent: first as one asks, then by force."""
        if not (self._heartbeat and self.process):
            return ""
        if self._kill_at is not None:
            if now >= self._kill_at:
                self.process.kill()
            return ""
        if not (silent := self._heartbeat.silent()):
            return ""
        self._kill_at = now + KILL_SECONDS
        self.process.stop()
        return (
            f"{self.program.name} (process {self.process.pid}) gave no sign of life for {silent:.0f} s; it is ended and"
            " started again."
        )


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
