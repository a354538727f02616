"""The children table: which processes make an installation, and with what they are started."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ops.installation import environment
from ops.supervisor.forked import Forked
from ops.supervisor.heartbeat import SILENT_SECONDS
from ops.supervisor.ports import Ports, is_free, reachable
from ops.supervisor.process import Process, Program, Running
from ops.supervisor.stores import Stores
from penstock.loading import any_installed
from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.queue import HANDLERS
from shared.settings import Settings


PENSTOCK = (sys.executable, "-m", "ops")
"""``penstock``, whatever is on the PATH."""


INGRESS_SILENT_SECONDS = 10.0
"""Who hangs keeps the connections that it has accepted: their senders wait for as long as it lives."""

FOLLOWS_UP = 10
"""Workers and pages stand back behind ingress and the stores: a provider waits seconds for its answer, follow-up may
wait for as long as there is more to acknowledge. With 10, ingress has nine times a worker's share. Beside two programs
that keep both cores busy a worker still has a tenth of one: it starts, as a fork, within two seconds, and its beats
come in time. With 19 it would have a seventieth, too little for a beat every three seconds to be sure.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of `penstock up`."""

    providers: Sequence[str]
    ingress: int = 1
    demo: bool = False
    command: Sequence[str] = PENSTOCK


@dataclass(frozen=True, slots=True)
class Role:
    """A child and how one sees that it is ready: an address that answers, or a file that is there."""

    program: Program
    ready_url: str = ""
    ready_file: Path | None = None
    heartbeat: Path | None = None
    """The file that it touches every second for as long as it lives."""
    silent_seconds: float = SILENT_SECONDS
    """How long it may touch nothing."""
    wanted: Callable[[], bool] = lambda: True
    """Whether there is anything to do for it: it is started once there is, and runs on whatever comes."""
    forked: Sequence[str] = ()
    """What follows ``penstock``, for a command that begins as a fork (``ops.supervisor.preloading`` has loaded it)."""
    why_started: str = "there is something for it to do now"
    """Why one that was not wanted is now."""
    why_missing: str = ""
    """What is to be told of one that is not wanted; empty where nobody misses it."""

    def spawn(self) -> Running:
        """Start it: as a fork if it can be, for that takes a tenth of the time."""
        if self.forked:
            with suppress(OSError, EOFError):  # the fork server did not start, or died just now
                return Forked(self.program, self.forked)
        return Process(self.program)

    @property
    def receives(self) -> bool:
        """Whether it takes deliveries."""
        return self.program.name.startswith("ingress-")

    @property
    def essential(self) -> bool:
        """Whether there is no pipeline without it: all but what shows, and what applications hand in."""
        return self.program.name not in {"console", "flower"}

    def missing(self, process: Running | None) -> str:
        """What is to be told of it while it has not been started; empty where there is nothing."""
        return self.why_missing if process is None else ""

    @property
    def feeds(self) -> bool:
        """Whether it lets new events in: these end first, so that the others can finish what is there."""
        return self.program.name == "lab" or self.receives


def settled(
    settings: Settings, options: Options, *, stores: Stores, ports: Ports, keys: str, password: str
) -> Settings:
    """The settings with everything that `penstock up` decided: what the children are handed."""
    config = demo_config(settings) if options.demo else settings.config.absolute()
    decided = {
        "PENSTOCK_DATABASE_URL": stores.database_url,
        "PENSTOCK_REDIS_URL": stores.redis_url,
        "PENSTOCK_CONFIG": str(config),
        "PENSTOCK_DATA_DIR": str(settings.data),
        "PENSTOCK_ENCRYPTION_KEYS": keys,
        "PENSTOCK_FLOWER_PASSWORD": password,
        "PENSTOCK_INGRESS_PORT": str(ports.ingress_port),
        "PENSTOCK_CONSOLE_PORT": str(ports.console_port),
        "PENSTOCK_FLOWER_PORT": str(ports.flower_port),
        "PENSTOCK_METRICS_PORT": str(ports.metrics_port),
    }
    return Settings.read({**environment(settings), **decided})


def demo_config(settings: Settings) -> Path:
    """Where the lab writes the accounts of the demo."""
    return settings.data / "demo" / "penstock.toml"


def child_environment(settings: Settings) -> dict[str, str]:
    """The whole environment of a child. Its metrics go into files, which the supervisor serves: no port of its own."""
    handed = {"PENSTOCK_METRICS_PORT": "0", "PROMETHEUS_MULTIPROC_DIR": str(metrics_folder(settings))}
    return {**os.environ, **environment(settings), **handed}


def metrics_folder(settings: Settings) -> Path:
    """Where the processes leave their metrics for the supervisor."""
    return settings.data / "run" / "metrics"


def ingress_url(settings: Settings) -> str:
    """Where providers deliver, as seen from this machine."""
    return f"http://{reachable(settings.host)}:{settings.ingress_port}"


def lab(settings: Settings, options: Options) -> Role:
    """The provider lab of the demo: it writes its accounts down, and after them its own file, ``run/lab.json``."""
    config = demo_config(settings)
    ready = settings.data / "run" / "lab.json"
    for file in (config, ready):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
    arguments = ("lab", "run", "--ingress", ingress_url(settings), "--config-out", str(config))
    return Role(_program(settings, options, "lab", *arguments), ready_file=ready)


def roles(settings: Settings, options: Options, ports: Ports) -> list[Role]:
    """Every child but the lab, in the order of their start. ``settings`` are the settled ones."""
    handed = ports.ingress.fileno()
    ingress = [_ingress(settings, options, f"ingress-{number}", handed) for number in range(1, options.ingress + 1)]
    workers = [_worker(settings, options, name) for name in options.providers]
    pages = [
        _page(settings, options, "console", settings.console_port, "/"),
        _page(settings, options, "flower", settings.flower_port, "/healthcheck"),
    ]
    heartbeat = _heartbeat(settings, "relay")
    arguments = ("relay", "--heartbeat", str(heartbeat))
    program = _program(settings, options, "relay", *arguments)
    relay = Role(program, heartbeat=heartbeat, forked=_forked(options, *arguments))
    return [*ingress, *workers, relay, *pages]


def _page(settings: Settings, options: Options, name: str, port: int, path: str) -> Role:
    """What shows: it is waited for by nobody, and where its port is taken it begins when that is free."""
    variable = f"PENSTOCK_{name.upper()}_PORT"
    return Role(
        replace(_program(settings, options, name, name, niceness=FOLLOWS_UP), port=port),
        ready_url=f"http://{reachable(settings.host)}:{port}{path}",
        wanted=partial(is_free, settings.host, port),
        why_started=f"port {port} is free now",
        why_missing=f"{name} waits for port {port}, which is taken: set {variable} to another (0 takes any free one)",
    )


def _ingress(settings: Settings, options: Options, name: str, handed: int) -> Role:
    heartbeat = _heartbeat(settings, name)
    arguments = ("ingress", "--fd", str(handed), "--metrics-port", "0", "--heartbeat", str(heartbeat))
    program = _program(settings, options, name, *arguments)
    return Role(
        replace(program, port=settings.ingress_port, descriptors=(handed,)),
        ready_url=f"{ingress_url(settings)}/health/ready",
        heartbeat=heartbeat,
        silent_seconds=INGRESS_SILENT_SECONDS,
        forked=_forked(options, *arguments),
    )


def _worker(settings: Settings, options: Options, provider: str) -> Role:
    name = f"worker-{provider}"
    heartbeat = _heartbeat(settings, name)
    arguments = ("worker", provider, "--heartbeat", str(heartbeat))
    program = _program(settings, options, name, *arguments, niceness=FOLLOWS_UP)
    if provider == HANDLERS:
        # Not forked: what was installed after the fork server had started is to be found.
        return Role(program, heartbeat=heartbeat, wanted=partial(_any_handler, settings.config))
    return Role(program, heartbeat=heartbeat, forked=_forked(options, *arguments))


def _any_handler(config: Path) -> bool:
    """Whether an installed package or the settings have one; settings that cannot be read have none yet."""
    with suppress(SettingsError):
        return any_installed() or bool(read_configuration(config).handlers)
    return False


def _heartbeat(settings: Settings, name: str) -> Path:
    return settings.data / "run" / "heartbeats" / name


def _forked(options: Options, *arguments: str) -> Sequence[str]:
    """The arguments, unless another program stands in for ours."""
    return arguments if options.command == PENSTOCK else ()


def _program(settings: Settings, options: Options, name: str, *arguments: str, niceness: int = 0) -> Program:
    return Program(
        name=name,
        niceness=niceness,
        argv=[*options.command, *arguments],
        environment=child_environment(settings),
        log=settings.data / "logs" / f"{name}.log",
    )
