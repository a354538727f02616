"""The load, a process of its own: raw sockets and requests made beforehand, so that it costs little itself.

``python -m ops.bench.load '{"port": ..., "requests": FILE, ...}'`` prints one JSON line (``Outcome``).

A closed loop keeps every connection busy and measures throughput. An open loop sends at times fixed beforehand, and
latency counts from those times: a request that had to wait because earlier answers were slow shows that wait
(otherwise slow answers would hide themselves: Gil Tene, "coordinated omission").
"""

import asyncio
import gc
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Final, cast

import httptools
import msgspec
import uvloop

from ops.bench.schedule import offsets
from ops.bench.statistics import percentile


HOST: Final = "127.0.0.1"
DRAIN_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 600.0
_RECEIPT = b"x-penstock-event"


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to send. ``rate`` 0 is a closed loop, which ends after ``count`` requests or else after ``seconds``."""

    port: int
    requests: str
    """A file with a msgpack list of complete HTTP requests; they are sent in turn, from ``first`` on."""
    connections: int = 64
    rate: float = 0.0
    seconds: float = 0.0
    count: int = 0
    first: int = 0
    warm_up: int = 0
    """So many requests before the measured ones (closed loop), or left out of the figures (open loop)."""
    receipts: bool = False
    """Tell each event's id with the unix time from which it counts."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of it: answers by status, seconds from the first sending to the last answer, latencies in ms."""

    statuses: dict[str, int]
    lost: int
    """Requests without an answer."""
    seconds: float
    began: float
    """Unix time of the first measured sending."""
    latency: dict[str, float]
    late: float
    """Milliseconds (p99) that the load itself was behind its schedule although a connection was free."""
    receipts: list[tuple[str, float]]

    @property
    def acknowledged(self) -> int:
        """Answers of success."""
        return sum(count for status, count in self.statuses.items() if status.startswith("2"))

    @property
    def rate(self) -> float:
        """Acknowledged requests a second."""
        return self.acknowledged / self.seconds


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self.due = 0.0
        self.busy = False
        self.receipt = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.busy = True
        if self._transport:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._run.order.receipts and name.lower() == _RECEIPT:
            self.receipt = value.decode()

    def on_message_complete(self) -> None:
        self.busy = False
        self._run.answered(self, self._parser.get_status_code(), time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._run.gone(self)


class _Run:
    """One order being carried out."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._requests: list[bytes] = msgspec.msgpack.decode(Path(order.requests).read_bytes(), type=list[bytes])
        self._sent = order.first
        self._statuses: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._receipts: list[tuple[str, float]] = []
        self._free: list[_Connection] = []
        self._waiting: deque[float] = deque()
        self._connections: list[_Connection] = []
        self._left = 0
        self._lost = 0
        self._skip = order.warm_up
        self._began = self._ended = 0.0
        self._until = 0.0
        self._done = asyncio.Event()

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        for _ in range(self.order.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), HOST, self.order.port)
            self._connections.append(connection)
        gc.collect()
        gc.disable()
        wall = time.time() - time.perf_counter()
        if self.order.rate:
            await self._open()
        else:
            await self._closed()
        latencies = self._latencies or [0.0]
        return Outcome(
            statuses={str(status): count for status, count in self._statuses.items()},
            lost=self._lost,
            seconds=self._ended - self._began,
            began=wall + self._began,
            latency={
                **{f"p{100 * share:g}": percentile(latencies, share) for share in (0.5, 0.9, 0.99, 0.999)},
                "max": max(latencies),
            },
            late=percentile(self._late or [0.0], 0.99),
            receipts=[(receipt, wall + due) for receipt, due in self._receipts],
        )

    async def _closed(self) -> None:
        self._left = self.order.warm_up + self.order.count if self.order.count else sys.maxsize
        self._began = time.perf_counter()
        self._until = self._began + (self.order.seconds or LONGEST_SECONDS)
        for connection in self._connections:
            self._next(connection, self._began)
        await self._ended_within(self._until - self._began + DRAIN_SECONDS)

    def _next(self, connection: _Connection, now: float) -> None:
        if self._left <= 0 or now >= self._until:
            if not any(each.busy for each in self._connections):
                self._done.set()
            return
        self._left -= 1
        self._send(connection, now)

    async def _open(self) -> None:
        """A thread keeps time: the timers of event loops are coarse to the millisecond."""
        self._free = list(self._connections)
        due = offsets(self.order.rate, self.order.seconds)
        self._left = len(due)
        loop = asyncio.get_running_loop()
        self._began = time.perf_counter() + 0.1

        def keep_time() -> None:
            for offset in due:
                at = self._began + offset
                if (wait := at - time.perf_counter()) > 0:
                    time.sleep(wait)
                loop.call_soon_threadsafe(self._fall_due, at)

        threading.Thread(target=keep_time, daemon=True).start()
        await self._ended_within(self.order.seconds + DRAIN_SECONDS)

    async def _ended_within(self, seconds: float) -> None:
        """Whoever has no answer by then has lost."""
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            self._lost += sum(each.busy for each in self._connections) + len(self._waiting)
        self._ended = self._ended or time.perf_counter()

    def _fall_due(self, at: float) -> None:
        if self._free:
            self._late.append(1000 * (time.perf_counter() - at))
            self._send(self._free.pop(), at)
        else:
            self._waiting.append(at)

    def _send(self, connection: _Connection, due: float) -> None:
        connection.send(self._requests[self._sent % len(self._requests)], due)
        self._sent += 1

    def answered(self, connection: _Connection, status: int, now: float) -> None:
        self._ended = now
        if self._skip:
            self._skip -= 1
            if not self.order.rate:
                self._began = now
        else:
            self._statuses[status] += 1
            self._latencies.append(1000 * (now - connection.due))
            if self.order.receipts:
                self._receipts.append((connection.receipt, connection.due))
        if not self.order.rate:
            self._next(connection, now)
            return
        self._left -= 1
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)
        if not self._left:
            self._done.set()

    def gone(self, connection: _Connection) -> None:
        """A connection that ends early loses its request; without connections there is nothing left to do."""
        if connection in self._connections:
            self._connections.remove(connection)
        if connection in self._free:
            self._free.remove(connection)
        self._lost += connection.busy
        if connection.busy and self.order.rate:
            self._left -= 1
        if not self._connections or (self.order.rate and not self._left):
            self._done.set()


def main() -> None:
    """Carry out the order in the first argument."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    outcome = uvloop.run(_Run(order).run())
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")


if __name__ == "__main__":
    main()
