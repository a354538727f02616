"""The supervisor: starts the children, watches them, starts dead ones again, and ends all of them in order."""

import asyncio
import signal
import socket
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
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
from shared.background import Background
from shared.errors import PenstockError
from shared.settings import Settings


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READY_SECONDS = 120.0
"""How long the lab is given, without whose accounts a demo is none."""
LATE_SECONDS = 60.0
"""Who is not ready by then is named, and waited for no longer before the rest is called ready."""
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
        self._late: list[Role] = []
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, options: Options, open_counts: OpenCounts) -> None:
        """Run until a signal asks to stop; a second one hurries.

        Raises PenstockError if a child that it cannot do without does not start.
        """
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
        first, others = self._stages
        self._start(first)
        await _ready([(role, child) for role, child in self._children if role in first])
        self._start(others)
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            await self._until_deliveries_are_received(client)
            # From here on nothing but a signal ends it: who takes deliveries does not end for who shows them.
            async with Background() as background:
                background.start("children", self._tend_on)
                background.start("late-children", self._start_when_wanted)
                background.start("logs", self._tidy)
                await self._tell_when_ready(client, options)
                background.start("readiness", partial(self._tell_when_late_ones_are_ready, client))
                await self._screen.show_counts(
                    open_counts, self._installation.database_url, self._installation.redis_url
                )

    def _start(self, roles: Sequence[Role]) -> None:
        for role, child in self._children:
            if role in roles and role.wanted():
                rotate(child.program.log)
                child.start()
        self._note()

    async def _until_deliveries_are_received(self, client: httpx.AsyncClient) -> None:
        """Wait for ingress' first answer, however long that takes; who is killed meanwhile is started again.

        Raises PenstockError when ingress, a worker or the relay ends by itself: a setting is wrong.
        """
        ingress = next(role for role, _ in self._children if role.receives)
        late_at = time.monotonic() + LATE_SECONDS
        while not await _is_ready(ingress, client):
            for role, child in self._children:
                if role.essential and (status := child.ended) is not None and status >= 0:
                    raise _failed(role, f"ended ({described(status)})")
            if time.monotonic() > late_at:
                late_at = float("inf")
                self._screen.say(f"{ingress.program.name} does not answer yet; its log is {ingress.program.log}.")
            self._tend()
            await asyncio.sleep(_TICK_SECONDS)

    async def _tell_when_ready(self, client: httpx.AsyncClient, options: Options) -> None:
        """Say that all are ready, or after a while which are not, and of these when they are."""
        late_at = time.monotonic() + LATE_SECONDS
        while late := [role for role, child in self._children if child.process and not await _is_ready(role, client)]:
            if time.monotonic() > late_at:
                break
            await asyncio.sleep(_TICK_SECONDS)
        for role in late:
            self._screen.say(
                f"{role.program.name} is not ready yet after {LATE_SECONDS:.0f} s; everything else goes on meanwhile."
                f" Its log is {role.program.log}."
            )
        self._late = late
        missing = [role.program.name for role, child in self._children if role in late or role.missing(child.process)]
        self._screen.say(f"Penstock is ready, but for {' and '.join(missing)}." if missing else "Penstock is ready.")
        self._screen.places(self._settings, demo=options.demo)

    async def _tell_when_late_ones_are_ready(self, client: httpx.AsyncClient) -> None:
        while self._late:
            await asyncio.sleep(_WANTED_SECONDS)
            for role in [role for role in self._late if await _is_ready(role, client)]:
                self._late.remove(role)
                self._screen.say(f"{role.program.name} is ready.")

    async def _tend_on(self) -> None:
        while True:
            self._tend()
            await asyncio.sleep(_TICK_SECONDS)

    def _tend(self) -> None:
        for child in (*self._servers, *(child for _, child in self._children)):
            try:
                said = child.tend()
            except OSError as error:  # no memory or no process number left for another one
                said = f"{child.program.name} cannot be started: {error}; tried again."
            if said:
                self._screen.say(said)
                self._note()

    async def _start_when_wanted(self) -> None:
        while late := [(role, child) for role, child in self._children if not child.process]:
            await asyncio.sleep(_WANTED_SECONDS)
            for role, child in late:
                if role.wanted():
                    with suppress(OSError):  # logs on a disk that is full; without one it cannot begin
                        rotate(child.program.log)
                    self._started(role, child)

    def _started(self, role: Role, child: Child) -> None:
        try:
            child.start()
        except OSError as error:
            self._screen.say(f"{role.program.name} cannot be started: {error}; tried again.")
            return
        self._note()
        self._screen.say(f"{role.program.name} is started: {role.why_started}.")

    async def _tidy(self) -> None:
        logs = [child.program.log for child in (*self._servers, *(child for _, child in self._children))]
        while True:
            with suppress(OSError):  # a disk that is full is told of by those who need it
                bound(logs)
            await asyncio.sleep(_TIDY_SECONDS)

    def _note(self) -> None:
        ready_at = {role.program.name: role.ready_url for role, _ in self._children}
        children = (*self._servers, *(child for _, child in self._children))
        processes = [
            NotedProcess(
                child.program.name,
                child.process.pid,
                child.process.started,
                child.program.port,
                ready_at.get(child.program.name, ""),
            )
            for child in children
            if child.process
        ]
        missing = [said for role, child in self._children if (said := role.missing(child.process))]
        noted = msgspec.structs.replace(self._installation, processes=processes, missing=missing)
        try:
            note(self._settings.data, noted)
        except OSError as error:
            self._screen.say(f"What runs cannot be noted in {self._settings.data}, so other commands miss it: {error}")

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
    """Wait until each is ready that the others cannot do without. Raises PenstockError with the end of its log."""
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
