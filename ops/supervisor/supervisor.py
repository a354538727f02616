"""The supervisor: starts the children, watches them, starts dead ones again, and ends all of them in order."""

import asyncio
import signal
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import httpx
import msgspec

from ops.installation import Installation, NotedProcess, forget, note
from ops.supervisor.children import Child, described, kill, stop
from ops.supervisor.counts import OpenCounts
from ops.supervisor.heartbeat import Heartbeat
from ops.supervisor.logs import bound, rotate, tail
from ops.supervisor.screen import Screen
from ops.supervisor.table import Options, Role
from shared.errors import PenstockError
from shared.settings import Settings


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READY_SECONDS = 120.0
FEED_STOP_SECONDS = 4.0
STOP_SECONDS = 10.0
"""Contract: all is over within 15 s; the embedded servers take what is left."""
_TICK_SECONDS = 0.2
_TIDY_SECONDS = 2.0
_WANTED_SECONDS = 2.0
"""How often it is asked whether a process that was not wanted is: settings take effect within 5 s."""


class Supervisor:
    """One run of an installation whose stores answer. ``settings`` are the settled ones, ``servers`` run already."""

    def __init__(
        self,
        *,
        settings: Settings,
        first: Sequence[Role],
        others: Sequence[Role],
        servers: Sequence[Child],
        installation: Installation,
        screen: Screen,
        listener: socket.socket,
    ) -> None:
        self._settings = settings
        self._stages = (first, others)
        self._children = [
            (role, Child(role.program, role.spawn, heartbeat=_heartbeat_of(role))) for role in (*first, *others)
        ]
        self._servers = servers
        self._installation = installation
        self._screen = screen
        self._listener = listener
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, options: Options, open_counts: OpenCounts) -> None:
        """Run until a signal asks to stop; a second one hurries. Raises PenstockError if a child cannot start."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        try:
            await _first_of(self._live(options, open_counts), self._stop.wait())
        finally:
            self._screen.say("Stopping ...")
            await _first_of(self._end(), self._hurry.wait())
            kill([child for _, child in self._children])
            forget(self._settings.data)

    def _signalled(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def _live(self, options: Options, open_counts: OpenCounts) -> None:
        for stage in self._stages:
            starting = [(role, child) for role, child in self._children if role in stage and role.wanted()]
            for _, child in starting:
                rotate(child.program.log)
                child.start()
            self._note()
            await _ready(starting)
        self._screen.say("Penstock is ready.")
        self._screen.places(self._settings, demo=options.demo)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tend())
            tasks.create_task(self._start_when_wanted())
            tasks.create_task(self._tidy())
            tasks.create_task(
                self._screen.show_counts(open_counts, self._installation.database_url, self._installation.redis_url)
            )

    async def _tend(self) -> None:
        while True:
            for child in (*self._servers, *(child for _, child in self._children)):
                if said := child.tend():
                    self._screen.say(said)
                    self._note()
            await asyncio.sleep(_TICK_SECONDS)

    async def _start_when_wanted(self) -> None:
        while late := [(role, child) for role, child in self._children if not child.process]:
            await asyncio.sleep(_WANTED_SECONDS)
            for role, child in late:
                if role.wanted():
                    rotate(child.program.log)
                    child.start()
                    self._note()
                    self._screen.say(f"{role.program.name} is started: there is something for it to do now.")

    async def _tidy(self) -> None:
        logs = [child.program.log for child in (*self._servers, *(child for _, child in self._children))]
        while True:
            bound(logs)
            await asyncio.sleep(_TIDY_SECONDS)

    def _note(self) -> None:
        processes = [
            NotedProcess(child.program.name, child.process.pid, child.process.started, child.program.port)
            for child in (*self._servers, *(child for _, child in self._children))
            if child.process
        ]
        note(self._settings.data, msgspec.structs.replace(self._installation, processes=processes))

    async def _end(self) -> None:
        began = time.monotonic()
        # Ingress closes its own copies as it ends: who comes after that is refused, and does not wait for nobody.
        self._listener.close()
        await stop([child for role, child in self._children if role.feeds], FEED_STOP_SECONDS)
        left = STOP_SECONDS - (time.monotonic() - began)
        await stop([child for _, child in self._children], left)


def _heartbeat_of(role: Role) -> Heartbeat | None:
    return Heartbeat(role.heartbeat, silent=role.silent_seconds) if role.heartbeat else None


async def _ready(starting: Sequence[tuple[Role, Child]]) -> None:
    """Wait until each of them is ready. Raises PenstockError with the end of the log of one that is not."""
    waiting = list(starting)
    deadline = time.monotonic() + READY_SECONDS
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        while waiting:
            for role, child in starting:
                if (status := child.ended) is not None:
                    raise _failed(role, f"ended ({described(status)})")
            waiting = [(role, child) for role, child in waiting if not await _is_ready(role, client)]
            if waiting and time.monotonic() > deadline:
                raise _failed(waiting[0][0], f"is not ready after {READY_SECONDS:.0f} s")
            await asyncio.sleep(_TICK_SECONDS)


async def _is_ready(role: Role, client: httpx.AsyncClient) -> bool:
    if role.ready_file and not role.ready_file.exists():
        return False
    if role.ready_url:
        try:
            return (await client.get(role.ready_url)).status_code < httpx.codes.INTERNAL_SERVER_ERROR
        except httpx.HTTPError:
            return False
    return True


def _failed(role: Role, what: str) -> PenstockError:
    log = role.program.log
    return PenstockError(f"{role.program.name} {what}; its log {log} ends with:\n{tail(log)}")


async def _first_of(work: Coroutine[Any, Any, None], until: Coroutine[Any, Any, object]) -> None:
    """Do the work until it is done or the other one is. Raises what the work raises."""
    tasks: list[asyncio.Task[Any]] = [asyncio.ensure_future(work), asyncio.ensure_future(until)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if tasks[0] in done:
        tasks[0].result()
