"""Sends hostile requests to a running ingress over raw sockets, and counts what comes back.

python -m tests.fuzz.http_edge --port 8000 --requests 1000000 --seed 1
"""

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import uvloop

from tests.fuzz.http_grammar import Requests, corpus


AT_ONCE: Final = 64
TAME: Final = 40
"""At most so many well formed requests go before a wild one on the same connection."""

PATIENCE_SECONDS: Final = 0.15
"""How long an answer to a wild request is waited for: to half a request there is none."""

ANSWERS_SECONDS: Final = 20.0
"""How long answers to whole requests are waited for: longer than any deadline of ingress."""

_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass
class Count:
    """What became of a run."""

    answers: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    """Requests that were answered, and wild ones, answered or not."""
    connections: int = 0
    refused: int = 0
    """Connections that could not be made: nobody listened."""
    unanswered: list[bytes] = field(default_factory=list)
    """What was sent where not every well formed request was answered."""
    failed: list[bytes] = field(default_factory=list)
    """What was sent where an answer was 500."""

    def told(self) -> dict[str, object]:
        """The counts, and the first requests that should have been answered otherwise, for JSON."""
        return {
            "requests": self.sent,
            "connections": self.connections,
            "answers": dict(sorted(self.answers.items())),
            "not_connected": self.refused,
            "unanswered": [sent.hex() for sent in self.unanswered[:3]],
            "answered_500": [sent.hex() for sent in self.failed[:3]],
        }


class _Session(asyncio.Protocol):
    """One connection: keeps the statuses that it is answered."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Find the status lines, wherever the pieces are cut."""
        text = self._rest + data
        end = 0
        for match in _STATUS.finditer(text):
            self.statuses.append(int(match[1]))
            end = match.end()
        self._rest = text[max(end, len(text) - 16) :]
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has closed, or reset."""
        del exc
        self.ended.set()
        self.changed.set()

    async def wait(self, answers: int, seconds: float) -> None:
        """Until there are so many answers, or the end, or no patience."""
        end = time.monotonic() + seconds
        while len(self.statuses) < answers and not self.ended.is_set() and (left := end - time.monotonic()) > 0:
            self.changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self.changed.wait()
            except TimeoutError:
                return


async def run(port: int, *, requests: int, seed: int, host: str = "127.0.0.1") -> Count:
    """Send so many requests; the same ones for the same seed."""
    count = Count()
    kept = corpus()
    await asyncio.gather(
        *(
            _send(count, Requests(seed * 1_000 + sender, kept), sender, host, port, requests)
            for sender in range(AT_ONCE)
        )
    )
    return count


async def _send(count: Count, made: Requests, sender: int, host: str, port: int, requests: int) -> None:
    loop = asyncio.get_running_loop()
    lengths = random.Random(sender)  # noqa: S311 - to try things out
    while count.sent < requests:
        tame = [made.tame() for _ in range(lengths.randint(0, TAME))]
        wild = made.wild()
        try:
            transport, session = await loop.create_connection(_Session, host, port)
        except OSError:
            count.refused += 1
            await asyncio.sleep(PATIENCE_SECONDS)
            if count.refused > AT_ONCE:
                return
            continue
        count.connections += 1
        transport.write(b"".join(tame))
        await session.wait(len(tame), ANSWERS_SECONDS)
        # After 400 and 431 the connection ends, as it should.
        if len(session.statuses) < len(tame) and not {400, 431}.intersection(session.statuses[-1:]):
            count.unanswered.append(b"".join(tame))
        count.sent += min(len(session.statuses), len(tame))
        if not session.ended.is_set():
            for piece in made.pieces(wild):
                if session.ended.is_set():
                    break
                transport.write(piece)
                await asyncio.sleep(0)
            count.sent += 1
            await session.wait(len(tame) + 1, PATIENCE_SECONDS)
        count.answers.update(session.statuses)
        if 500 in session.statuses:
            count.failed.append(b"".join(tame) + wild)
        transport.abort()


def main() -> None:
    """Run from a terminal; exit status 1 if an answer was 500, or nobody listened."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--port", type=int, required=True)
    asked.add_argument("--requests", type=int, default=100_000)
    asked.add_argument("--seed", type=int, default=1)
    options = asked.parse_args()
    began = time.monotonic()
    count = uvloop.run(run(options.port, requests=options.requests, seed=options.seed))
    told = {**count.told(), "seconds": round(time.monotonic() - began, 1)}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.exit(1 if count.failed or count.refused else 0)


if __name__ == "__main__":
    main()
