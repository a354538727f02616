"""A TCP proxy that can lose its connections without a word, as a firewall does that forgot them."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support.conditions import HANG_SECONDS


_CHUNK = 65536


class Proxy:
    """Forwards to a port of this machine. ``cut`` silences what is open: no byte, no FIN, no RST; new ones work."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._open: set[asyncio.Task[None]] = set()
        # Held, so that a silenced connection is never closed by being forgotten.
        self._held: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()

    async def serve(self, ready: threading.Event) -> None:
        """Listen and forward until cancelled."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in self._held:
                writer.close()

    def cut(self) -> None:
        """Forward nothing more on the connections that are open now."""

        async def silence() -> None:
            for task in self._open:
                task.cancel()

        asyncio.run_coroutine_threadsafe(silence(), self._loop).result(5)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except ConnectionError:
            writer.close()
            return
        self._held += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            task = self._loop.create_task(self._forward(source, sink))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(_CHUNK):
                sink.write(chunk)
                await sink.drain()
            sink.close()


@contextmanager
def running_proxy(target: int) -> Iterator[Proxy]:
    """A proxy in a thread of its own."""
    proxy = Proxy(target)
    ready = threading.Event()
    serving = proxy._loop.create_task(proxy.serve(ready))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            proxy._loop.run_until_complete(serving)
        for task in asyncio.all_tasks(proxy._loop):
            task.cancel()
        proxy._loop.run_until_complete(proxy._loop.shutdown_asyncgens())
        proxy._loop.close()

    thread = threading.Thread(target=run, name="proxy")
    thread.start()
    assert ready.wait(HANG_SECONDS)
    try:
        yield proxy
    finally:
        proxy._loop.call_soon_threadsafe(serving.cancel)
        thread.join(HANG_SECONDS)
