"""The lab as one process: four APIs, the control API and the senders on one event loop.

``python -m ops.lab.server '{"seed": 7}'`` prints one JSON line with the ports when everything answers.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvicorn
import uvloop
from starlette.types import ASGIApp

from ops.lab.accounts import STUDIOS, config_toml, lab_accounts
from ops.lab.authenteq_api import AuthenteqApi
from ops.lab.calls import Calls
from ops.lab.control import Control
from ops.lab.faults import Faults
from ops.lab.gate import Api, Behaviour, CuttableProtocol, Gate
from ops.lab.happening import LabError
from ops.lab.imin_api import IminApi
from ops.lab.limits import Limits
from ops.lab.magicline_api import MagiclineApi
from ops.lab.paybook_api import PaybookApi
from ops.lab.sender import Sender
from ops.lab.traffic import Traffic
from ops.lab.world import World


_KEEP_ALIVE_SECONDS = 600
"""Longer than any caller pauses on a slow machine: who uses a connection just as it is closed has no answer."""

PORTS = ("imin", "magicline", "paybook", "authenteq", "control")


class LabOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a lab runs. Ports of 0 take free ones; ``rate`` 0 sends no traffic of its own; files are written if named."""

    seed: int = 1
    rate: float = 0.0
    ingress: str = "http://127.0.0.1:8000"
    clock_speed: float = 1.0
    latency: float = 0.0
    studios: int = len(STUDIOS)
    ports: dict[str, int] = msgspec.field(default_factory=dict)
    config_out: str = ""
    state_out: str = ""
    """Where to write the ready line, so that other commands find this lab; removed at the end."""
    with_parent: bool = False
    """Stop when standard input is closed: a lab that a test started ends with it."""


def run(options: LabOptions, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` is given the JSON line. Raises LabError when a port is taken."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, ready))


async def serve(options: LabOptions, ready: Callable[[str], None]) -> None:
    """As ``run``, on the running loop."""
    sockets = {name: _bound(name, options.ports.get(name, 0)) for name in PORTS}
    ports = {name: bound.getsockname()[1] for name, bound in sockets.items()}
    accounts = lab_accounts(options.seed, ports, studios=options.studios)
    world = World(options.seed, accounts, datetime.now(UTC))
    behaviour = Behaviour(Calls(), Faults(options.seed), Limits())
    if options.latency:
        behaviour.latency[""] = options.latency
    stopped = asyncio.Event()
    with _stopping(stopped, with_parent=options.with_parent):
        async with Sender(options.ingress, options.clock_speed, _counting_failures(world)) as sender:
            apps: dict[str, ASGIApp] = {api.provider: Gate(api, behaviour) for api in apis(world)}
            apps["control"] = Control(world, behaviour, sender, ports).app
            servers = [_Server(app) for app in apps.values()]
            serving = [
                asyncio.create_task(server.serve(sockets=[sockets[name]]))
                for name, server in zip(apps, servers, strict=True)
            ]
            await asyncio.gather(*(server.up.wait() for server in servers))
            line = msgspec.json.encode({"ports": ports, "control": f"http://127.0.0.1:{ports['control']}"}).decode()
            with _written(options, line, config_toml(accounts)):
                ready(line)
                traffic = [Traffic(world, sender, options.rate, options.seed).run()] if options.rate else []
                await _until(stopped, *traffic)
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*serving)


def apis(world: World) -> list[Api]:
    """The four APIs over one world."""
    imin, magicline, paybook, authenteq = (
        [account for account in world.accounts if account.provider == provider]
        for provider in ("imin", "magicline", "paybook", "authenteq")
    )
    return [
        IminApi({each.api_key: (each.name, world.imin[each.name]) for each in imin}),
        MagiclineApi({each.api_key: (each.name, world.magicline[each.name]) for each in magicline}),
        PaybookApi(
            {each.api_key: (each.name, world.paybook[each.name], world.webhooks[each.name]) for each in paybook}
        ),
        AuthenteqApi(
            {f"{each.client_id}:{each.api_key}": (each.name, world.authenteq[each.name]) for each in authenteq}
        ),
    ]


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers (five servers share one process), and with a sign of being up."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http=CuttableProtocol,
            loop="none",
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="critical",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell when the port answers."""
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the lab's, not a single server's."""
        yield


def _bound(name: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        raise LabError(f"port {port} for {name} cannot be had ({error.strerror}); choose another or 0") from None
    return bound


def _counting_failures(world: World) -> Callable[[str, str], None]:
    def failed(provider: str, account: str) -> None:
        if provider == "paybook":
            world.webhooks[account].failed()

    return failed


@contextlib.contextmanager
def _stopping(stopped: asyncio.Event, *, with_parent: bool) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    try:
        yield
    finally:
        if with_parent:
            loop.remove_reader(sys.stdin.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _written(options: LabOptions, line: str, toml: str) -> Iterator[None]:
    files: Mapping[str, str] = {options.config_out: toml, options.state_out: line + "\n"}
    for name, text in files.items():
        if name:
            try:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(text, encoding="utf-8")
            except OSError as error:
                raise LabError(f"cannot write {name}: {error.strerror}") from None
    try:
        yield
    finally:
        if options.state_out:
            Path(options.state_out).unlink(missing_ok=True)


async def _until(stopped: asyncio.Event, *work: Coroutine[None, None, None]) -> None:
    """Wait for the sign to stop, or for work that ends although it should not."""
    tasks = [asyncio.create_task(each) for each in work]
    waiting = asyncio.create_task(stopped.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (waiting, *tasks):
        task.cancel()
    await asyncio.gather(waiting, *tasks, return_exceptions=True)
    for task in done:
        if task is not waiting:
            task.result()


def main() -> None:
    """Run with the options given as JSON in the first argument."""
    options = msgspec.json.decode(sys.argv[1] if len(sys.argv) > 1 else "{}", type=LabOptions)
    try:
        run(options, lambda line: print(line, flush=True))  # noqa: T201 - the ready line is this program's output
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
