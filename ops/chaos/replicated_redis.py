"""A Redis that fails over: a primary, two replicas and three sentinels, all of them the embedded program for real."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from ops.embedded.redis import server_program
from ops.supervisor.logs import tail
from ops.supervisor.private import password, write_private
from ops.supervisor.process import Process, Program
from shared.errors import StoreAway


HOST: Final = "127.0.0.1"
SERVICE: Final = "penstock"
REPLICAS: Final = 2
SENTINELS: Final = 3
DOWN_AFTER_MS: Final = 3000
_START_SECONDS: Final = 120.0
_FAILOVER_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.1


class ReplicatedRedis:
    """Started on entry, ended on exit. Servers and sentinels have passwords of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._password, self._sentinel_password = password(), password()
        self._processes: dict[int, Process] = {}
        """By port."""
        self._sentinels: list[int] = []

    @property
    def url(self) -> str:
        """As PENSTOCK_REDIS_URL says it."""
        hosts = ",".join(f"{HOST}:{port}" for port in self._sentinels)
        return f"redis+sentinel://:{self._password}@{hosts}/{SERVICE}/0?sentinel_password={self._sentinel_password}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def primary(self) -> int:
        """The port of the server that the sentinels name. Raises StoreAway when none of them answers."""
        for port in self._sentinels:
            with suppress(redis.RedisError), self._sentinel(port) as sentinel:
                return int(sentinel.sentinel_get_master_addr_by_name(SERVICE)[1])
        raise StoreAway("no sentinel answers")

    def kill_primary(self) -> int:
        """End the primary at once (SIGKILL); its port."""
        port = self.primary()
        self._processes[port].kill()
        return port

    def freeze_primary(self) -> int:
        """Stop the primary (SIGSTOP), its connections open; its port."""
        port = self.primary()
        os.kill(self._processes[port].pid, signal.SIGSTOP)
        return port

    def wake(self, port: int) -> None:
        """Let a server that was stopped go on."""
        os.kill(self._processes[port].pid, signal.SIGCONT)

    async def another_primary(self, killed: int) -> int:
        """The port of the new primary, once the sentinels name one and it takes writes. Raises StoreAway."""
        deadline = time.monotonic() + _FAILOVER_SECONDS
        while (port := self.primary()) == killed or not self._takes_writes(port):
            if time.monotonic() > deadline:
                raise StoreAway(f"the sentinels have not made another server the primary in {_FAILOVER_SECONDS:.0f} s")
            await asyncio.sleep(_LOOK_SECONDS)
        return port

    def freeze_replicas(self) -> None:
        """Stop every server but the primary (SIGSTOP)."""
        primary = self.primary()
        for port, process in self._processes.items():
            if port not in {primary, *self._sentinels}:
                os.kill(process.pid, signal.SIGSTOP)

    def _start(self) -> None:
        ports = _free_ports(1 + REPLICAS + SENTINELS)
        primary, servers, self._sentinels = ports[0], ports[: 1 + REPLICAS], ports[1 + REPLICAS :]
        for port in servers:
            follows = () if port == primary else (f"replicaof {HOST} {primary}",)
            self._run(port, (*self._of_server(port), *follows))
        self._until(lambda: all(self._in_step(port) for port in servers[1:]), "the replicas do not follow the primary")
        for port in self._sentinels:
            self._run(port, self._of_sentinel(primary), "--sentinel")
        self._until(lambda: all(self._knows_all(port) for port in self._sentinels), "the sentinels do not see all")

    def _of_server(self, port: int) -> tuple[str, ...]:
        return (
            f"requirepass {self._password}",
            f"masterauth {self._password}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            f"appendfilename {port}.aof",
            # A replica that begins is sent everything at once, not after the 5 s in which others might come too.
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
        )

    def _of_sentinel(self, primary: int) -> tuple[str, ...]:
        return (
            f"requirepass {self._sentinel_password}",
            f"sentinel sentinel-pass {self._sentinel_password}",
            f"sentinel monitor {SERVICE} {HOST} {primary} {SENTINELS // 2 + 1}",
            f"sentinel auth-pass {SERVICE} {self._password}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
        )

    def _run(self, port: int, lines: tuple[str, ...], *arguments: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir(mode=0o700, parents=True)
        settings = folder / "redis.conf"
        always = (f"bind {HOST}", f"port {port}", f'dir "{folder}"', "daemonize no")
        write_private(settings, "".join(f"{line}\n" for line in (*always, *lines)).encode())
        program = Program(
            name=f"redis-{port}",
            argv=[str(server_program()), str(settings), *arguments],
            environment={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            log=folder / "redis.log",
            port=port,
        )
        self._processes[port] = Process(program)

    def _takes_writes(self, port: int) -> bool:
        with suppress(redis.RedisError), redis.Redis(HOST, port, password=self._password, protocol=2) as client:
            return bool(client.info("replication").get("role") == "master")
        return False

    def _in_step(self, port: int) -> bool:
        with suppress(redis.RedisError), redis.Redis(HOST, port, password=self._password, protocol=2) as client:
            return bool(client.info("replication").get("master_link_status") == "up")
        return False

    def _knows_all(self, port: int) -> bool:
        with suppress(redis.RedisError), self._sentinel(port) as sentinel:
            state: dict[str, Any] = sentinel.sentinel_master(SERVICE)
            return (state["num-slaves"], state["num-other-sentinels"]) == (REPLICAS, SENTINELS - 1)
        return False

    def _sentinel(self, port: int) -> redis.Redis:
        return redis.Redis(HOST, port, password=self._sentinel_password, socket_timeout=2, protocol=2)

    def _until(self, met: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not met():
            if time.monotonic() > deadline:
                told = "\n".join(tail(each.program.log) for each in self._processes.values())
                raise StoreAway(f"{otherwise}:\n{told}")
            time.sleep(_LOOK_SECONDS)

    def _stop(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.stop()
        for process in self._processes.values():
            if not process.wait(_STOP_SECONDS):
                process.kill()
                process.wait(_STOP_SECONDS)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        probes = [opened.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
