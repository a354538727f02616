"""Strangers, a process of its own: slow connections that are held, and wrong keys one after the other.

``python -m ops.bench.strangers '{"port": ..., "lorises": 500, "flooders": 8, "seconds": 10}'`` prints a first line
when all connections stand, and at the end one JSON line (``Count``). It stands back behind the other processes of the
machine: on the internet it would have a processor of its own.
"""

import asyncio
import contextlib
import os
import sys
import time
from typing import Final

import msgspec
import uvloop

from ops.bench.load import HOST


STANDS_BACK: Final = 10
"""Niceness."""

DRIP_SECONDS: Final = 0.1
_REFUSED: Final = frozenset({b"401", b"429"})
_BODY: Final = b"x" * 500
_UNPROVEN: Final = (
    b"POST /webhooks/imin HTTP/1.1\r\nHost: bench\r\nX-Api-Key: wrong\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
    + _BODY
)
_SLOW: Final = b"POST /webhooks/imin HTTP/1.1\r\n"


class Siege(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many, against which port, for how long."""

    port: int
    lorises: int
    flooders: int
    seconds: float


class Count(msgspec.Struct, frozen=True):
    """What came of it: refusals, answers of another kind or none, connections that were ended and made anew."""

    refused: int
    otherwise: int
    reopened: int
    seconds: float


class _Strangers:
    def __init__(self, siege: Siege) -> None:
        self._siege = siege
        self._refused = self._otherwise = self._reopened = 0

    async def run(self) -> Count:
        held = [await self._open() for _ in range(self._siege.lorises)]
        sys.stdout.write('{"ready": true}\n')
        sys.stdout.flush()
        began = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._siege.seconds), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._drip(held))
                for _ in range(self._siege.flooders):
                    tasks.create_task(self._flood())
        for writer in held:
            writer.close()
        return Count(self._refused, self._otherwise, self._reopened, time.perf_counter() - began)

    async def _open(self) -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection(HOST, self._siege.port)
        writer.write(_SLOW)
        return writer

    async def _drip(self, held: list[asyncio.StreamWriter]) -> None:
        """Another byte of each one's head, ten times a second; one that ingress ended is made anew."""
        while True:
            for place, writer in enumerate(held):
                if writer.is_closing():
                    with contextlib.suppress(OSError):
                        held[place] = await self._open()
                        self._reopened += 1
                else:
                    writer.write(b"x")
            await asyncio.sleep(DRIP_SECONDS)

    async def _flood(self) -> None:
        """One wrong key after the other, each over a connection of its own: ingress ends it with its answer."""
        while True:
            try:
                reader, writer = await asyncio.open_connection(HOST, self._siege.port)
                with contextlib.closing(writer):
                    writer.write(_UNPROVEN)
                    status = (await reader.readuntil(b"\r\n")).split(b" ")[1]
            except (OSError, asyncio.IncompleteReadError):
                self._otherwise += 1
                continue
            if status in _REFUSED:
                self._refused += 1
            else:
                self._otherwise += 1


def main() -> None:
    """Read the order, carry it out, print what came of it."""
    siege = msgspec.json.decode(sys.argv[1], type=Siege)
    os.nice(STANDS_BACK)
    count = uvloop.run(_Strangers(siege).run())
    sys.stdout.write(msgspec.json.encode(count).decode() + "\n")


if __name__ == "__main__":
    main()
