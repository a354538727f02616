"""A whole installation for one run: `penstock up` in a folder of its own, connected to a lab."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ops.installation import Installation, NotedProcess, running
from ops.lab.process import Lab
from ops.supervisor.logs import tail
from ops.supervisor.process import Process, Program
from shared.errors import PenstockError


if TYPE_CHECKING:
    from ops.chaos.replicated_redis import ReplicatedRedis

READY_SECONDS = 300.0
STOP_SECONDS = 20.0
INGRESS = 2
_ROOT = Path(__file__).parents[2]
_READY = b"Penstock is ready."
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class GivenStores:
    """A user's own servers; None: the embedded one."""

    database_url: str | None = None
    redis_url: str | None = None

    @property
    def embedded(self) -> frozenset[str]:
        """The servers that are ours to restart, freeze and fill up."""
        given = {"postgres": self.database_url, "redis": self.redis_url}
        return frozenset(name for name, url in given.items() if url is None)


class Throwaway:
    """One installation: started, looked at, killed and started again. To be used from the main thread alone.

    ``key`` seals what it keeps.
    """

    def __init__(self, folder: Path, lab: Lab, stores: GivenStores, key: str) -> None:
        self.folder = folder
        self.lab = lab
        self.data = folder / "data"
        self._port = _free_port()
        self.key = key
        self._stores = stores
        self.replicated: ReplicatedRedis | None = None
        """Its Redis, where that is one with sentinels."""
        self._process: Process | None = None
        self._noted: Installation | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "penstock.toml").write_text(_config(lab), encoding="utf-8")

    @property
    def ingress_url(self) -> str:
        """Where deliveries go; the same before and after a restart."""
        return f"http://127.0.0.1:{self._port}"

    def noted(self) -> Installation:
        """What the installation has noted of itself: its stores, and its processes as they are now."""
        self._noted = running(self.data) or self._noted
        if self._noted is None:
            raise PenstockError(f"no installation runs in {self.folder}")
        return self._noted

    def alive(self, prefix: str) -> list[NotedProcess]:
        """The living processes whose names begin so, such as ``worker-``."""
        return [each for each in self.noted().processes if each.name.startswith(prefix) and each.alive]

    async def start(self) -> None:
        """Start it and wait until all of it is ready. Raises PenstockError with the end of its log."""
        log = self.folder / "up.log"
        known = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", "ops", "up", "--ingress", str(INGRESS)]
        program = Program(name="up", argv=command, environment=self._environment(), log=log)
        self._process = process = Process(program)
        deadline = time.monotonic() + READY_SECONDS
        while _READY not in log.read_bytes()[known:]:
            if process.ended() is not None or time.monotonic() > deadline:
                process.kill()
                raise PenstockError(f"the throw-away installation did not start; {log} ends with:\n{tail(log)}")
            await asyncio.sleep(_POLL_SECONDS)
        self.noted()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and everything with it, before returning."""
        if self._process is None:
            return
        left = [each for each in self._noted.processes if each.alive] if self._noted else []
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while self._process.ended() is None or any(each.alive for each in left):
            if time.monotonic() > deadline:
                self._process.kill()
                for each in left:
                    if each.alive:
                        os.kill(each.pid, signal.SIGKILL)
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        settings = {
            "DATA_DIR": str(self.data),
            "CONFIG": str(self.folder / "penstock.toml"),
            "INGRESS_PORT": str(self._port),
            "CONSOLE_PORT": "0",
            "FLOWER_PORT": "0",
            "METRICS_PORT": "0",
            "DATABASE_URL": self._stores.database_url or "",
            "REDIS_URL": self._stores.redis_url or "",
            "ENCRYPTION_KEYS": self.key,
        }
        named = {f"PENSTOCK_{name}": value for name, value in settings.items() if value}
        return {**kept, **named, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), kept.get("PYTHONPATH"))))}


def _config(lab: Lab) -> str:
    """The lab's accounts, with quick retries and no budgets: a scenario is to end in seconds, not when limits allow."""
    toml = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0}) + "[timing]\ncall_seconds = 10.0\n"
    return toml.replace("base_url = ", "budget = { calls = 0 }\nbase_url = ")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
