"""Where Redis has WAITAOF (7.2 and newer), an event counts as kept only when the disk has it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from ingress.spool import SPOOL_SECONDS, SpoolAppends
from shared.errors import StoreAway
from shared.spool import Spool, SpoolRefused
from shared.store.inbox import NewEvent
from support.lag import measured_lag
from tests.ingress.conftest import free_port, running_redis


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ingress.conftest import Server


ON_DISK = "return {1, 0}"
NOT_ON_DISK = "return {0, 0}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """A Redis that keeps what it is given, but knows no WAITAOF."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with running_redis(folder, free_port(), "--appendonly", "yes", "--save", "") as running:
        yield running


def event() -> NewEvent:
    """An event as ingress spools it."""
    return NewEvent(uuid7(), "imin", "main", datetime.now(UTC), "spool", "", [], b"sealed", None, 1, bytes(32))


@asynccontextmanager
async def with_waitaof(server: "Server", script: str, disk: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of a Redis that knows WAITAOF: a proxy that waits for ``disk`` and lets a script answer instead."""
    _, _, port = server.url.removesuffix("/0").rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", int(port))
        back = asyncio.create_task(_copy(from_redis, writer))
        try:
            while True:
                command = await _command(reader)
                if command[0] == b"WAITAOF":
                    await disk()
                    command = [b"EVAL", script.encode(), b"0"]
                pieces = b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in command)
                to_redis.write(b"*%d\r\n%s" % (len(command), pieces))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            back.cancel()
            to_redis.close()
            writer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/0"
    finally:
        proxy.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    parts = []
    for _ in range(count):
        length = int((await reader.readuntil(b"\r\n"))[1:])
        parts.append((await reader.readexactly(length + 2))[:-2])
    return parts


async def at_once() -> None:
    """A disk that has everything already."""


def test_a_server_without_waitaof(server: "Server") -> None:
    """It is as safe as its appendfsync, and that is what append says."""

    async def run() -> None:
        async with Redis.from_url(server.url) as client:
            spool = Spool(client)
            # Several that find it out at the same time, and one that knows.
            assert [False] * 8 == await asyncio.gather(*(spool.append([event()], 1) for _ in range(8)))
            assert not await spool.append([event()], 1)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (ON_DISK, True),
        (NOT_ON_DISK, SpoolRefused),
        ("return redis.error_reply('ERR WAITAOF cannot be used when appendonly is disabled')", SpoolRefused),
        ("return redis.error_reply('NOPERM this user has no permissions to run the command')", False),
    ],
)
def test_what_waitaof_answers(server: "Server", script: str, expected: object) -> None:
    """Only a disk that has it proves it; no permission to ask is as no WAITAOF."""

    async def run() -> object:
        async with with_waitaof(server, script, at_once) as url, Redis.from_url(url) as client:
            try:
                return await Spool(client).append([event()], 1)
            except StoreAway as error:
                return type(error)

    assert expected == asyncio.run(run())


def test_a_disk_that_is_written_once_a_second(server: "Server") -> None:
    """With ``appendfsync everysec`` every append waits up to a second; a steady stream is kept in time all the same."""

    async def tick() -> None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(1 - now % 1)

    async def run() -> tuple[float, float]:
        async with measured_lag() as lag, with_waitaof(server, ON_DISK, tick) as url:
            appends = SpoolAppends(url)
            appends.start()
            loop = asyncio.get_running_loop()

            async def keep() -> float:
                began = loop.time()
                await appends.keep(event())
                return loop.time() - began

            tasks = []
            for _ in range(600):
                tasks.append(asyncio.create_task(keep()))
                await asyncio.sleep(0.005)
            took = await asyncio.gather(*tasks)
            await appends.stop()
            return max(took), lag.seconds

    slowest, lag = asyncio.run(run())
    assert slowest < SPOOL_SECONDS + lag
