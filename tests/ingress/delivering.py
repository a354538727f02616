"""Deliveries at a steady rate, each compared afterwards with what is kept."""

import asyncio
import hashlib
import time
from dataclasses import dataclass
from uuid import UUID

from tests.ingress.conftest import Ingress, request


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was sent and how it was answered."""

    body: bytes
    status: int
    durability: str | None
    event: UUID | None
    began: float
    took: float


async def deliver(ingress: Ingress, body: bytes) -> Delivery:
    """One delivery of imin over a connection of its own."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(request("POST", "/webhooks/imin", {"X-Api-Key": "imin-key"}, body))
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    took = time.monotonic() - began
    writer.close()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    event = headers.get("x-penstock-event")
    return Delivery(
        body,
        int(head[0].split(" ")[1]),
        headers.get("x-penstock-durability"),
        UUID(event) if event else None,
        began,
        took,
    )


async def steadily(ingress: Ingress, *, rate: int, seconds: float) -> list[Delivery]:
    """Deliveries at a rate that no slow answer changes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(began + number / rate - loop.time())
        tasks.append(asyncio.create_task(deliver(ingress, b'{"number": %d}' % number)))
    return await asyncio.gather(*tasks)


def kept(ingress: Ingress) -> dict[UUID, bytes]:
    """The sha256 of every event in Postgres, as it was noted and as the body that was kept has it."""
    rows = ingress.rows("SELECT id, body, blob, body_sha256 FROM events")
    for row in rows:
        assert row["body_sha256"] == hashlib.sha256(ingress.body_of(row)).digest()
    return {row["id"]: row["body_sha256"] for row in rows}


def sent(deliveries: list[Delivery]) -> dict[UUID, bytes]:
    """The sha256 of every acknowledged body."""
    return {each.event: hashlib.sha256(each.body).digest() for each in deliveries if each.event}
