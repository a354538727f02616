"""Strangers who hold connections and send what is not authentic do not keep the authentic deliveries waiting."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.embedded.redis import Redis
from tests.ingress.conftest import Ingress, request, running_ingress


LORISES = 500
FLOODERS = 8
SENDERS = 8
DELIVERIES = 100
"""Of each sender, one after the other."""

AUTHENTIC = request("POST", "/webhooks/imin", {"X-Api-Key": "imin-key"}, b"{}")
UNPROVEN = request("POST", "/webhooks/imin", {"X-Api-Key": "wrong"}, b"x" * 500)


@pytest.fixture
def ingress(tmp_path: Path, database_url: str, redis: Redis) -> Iterator[Ingress]:
    """A process of the test's own."""
    with running_ingress(tmp_path, database_url, redis.url) as running:
        yield running


def test_authentic_deliveries_are_acknowledged_beside_a_flood(ingress: Ingress) -> None:
    """Five hundred slow heads and an unbroken flood of wrong keys: each delivery is answered 204 and kept.

    How fast is a figure of ``penstock bench --only flood``, and no test's.
    """
    acknowledged, refused = asyncio.run(_besiege(ingress.port))

    assert SENDERS * DELIVERIES == acknowledged == ingress.count()
    assert refused > DELIVERIES
    assert "Traceback" not in ingress.log()


async def _besiege(port: int) -> tuple[int, int]:
    """How many authentic deliveries were acknowledged, and how many others were refused meanwhile."""
    refused = [0]
    writers = await asyncio.gather(*(_loris(port) for _ in range(LORISES)))
    beside = [asyncio.create_task(_flood(port, refused)) for _ in range(FLOODERS)]
    beside.append(asyncio.create_task(_drip(writers)))
    acknowledged = await asyncio.gather(*(_deliver(port) for _ in range(SENDERS)))
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    for writer in writers:
        writer.close()
    return sum(acknowledged), refused[0]


async def _loris(port: int) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /webhooks/imin HTTP/1.1\r\n")
    return writer


async def _drip(writers: list[asyncio.StreamWriter]) -> None:
    """Another header's byte of each, ten times a second."""
    while True:
        for writer in writers:
            with contextlib.suppress(OSError):
                writer.write(b"x")
        await asyncio.sleep(0.1)


async def _flood(port: int, refused: list[int]) -> None:
    """One wrong key after the other, each over a connection of its own: ingress closes it."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write(UNPROVEN)
                head = await reader.readuntil(b"\r\n")
            refused[0] += head.split(b" ")[1] in {b"401", b"429"}


async def _deliver(port: int) -> int:
    """Over one connection that is kept; how many were acknowledged."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    acknowledged = 0
    for _ in range(DELIVERIES):
        writer.write(AUTHENTIC)
        head = await reader.readuntil(b"\r\n\r\n")
        acknowledged += head.startswith(b"HTTP/1.1 204 ")
    writer.close()
    return acknowledged
