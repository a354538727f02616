"""The spool in the Redis that Penstock brings along: what its ``append`` says is what that server can prove."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis.asyncio import Redis as Client
from uuid_utils.compat import uuid7

from ops.embedded.redis import Redis
from shared.spool import Spool
from shared.store.inbox import NewEvent
from support.conditions import HANG_SECONDS, until


FIRST_WITH_WAITAOF = (7, 2)


def event() -> NewEvent:
    """An event as ingress spools it."""
    return NewEvent(uuid7(), "imin", "main", datetime.now(UTC), "spool", "", [], b"sealed", None, 1, bytes(32))


def test_what_was_appended_is_there_after_a_kill_and_proven_where_the_server_can(tmp_path: Path) -> None:
    """``True`` from 7.2 on, ``False`` before; either way the disk had it before the answer."""
    events = [event() for _ in range(20)]

    async def append(url: str) -> tuple[bool, Any]:
        async with Client.from_url(url) as client:
            told: Any = await client.info("server")
            return await Spool(client).append(events, 1), told["redis_version"]

    async def read(url: str) -> list[NewEvent | None]:
        async with Client.from_url(url) as client:
            return [entry.event for entry in await Spool(client).read(100)]

    with Redis(tmp_path) as server:
        proven, version = asyncio.run(append(server.url))
        assert server.process
        os.kill(server.process.pid, signal.SIGKILL)
        assert server.process.wait(HANG_SECONDS)
        server.spawn()
        until(server.answers, otherwise="Redis does not start again")
        kept = asyncio.run(read(server.url))

    can = tuple(int(part) for part in version.split(".")[:2]) >= FIRST_WITH_WAITAOF
    assert can == proven
    assert events == kept
