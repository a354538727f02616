"""An application that is handed changes by HTTP: real, on a free port, and as unhelpful as a test wants it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import orjson


class Message(NamedTuple):
    """One request as it came: header names are lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The idempotency key."""
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        """The change within the envelope."""
        data: dict[str, Any] = orjson.loads(self.body)["data"]
        return data


class Reply(NamedTuple):
    """What to answer; a status of 0 cuts the connection without a word."""

    status: int = 204
    headers: Mapping[str, str] = {}
    body: bytes = b""
    wait: float = 0.0


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets; ``reply`` says what is answered."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, reply: Callable[[Message], Reply] = lambda _: Reply(), port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Request)
        self.reply = reply
        self.got: list[Message] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}/hook"

    def handle_error(self, *_: object) -> None:
        """Senders that break off are part of the tests."""


class _Request(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        message = Message(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        with self.server.lock:
            self.server.got.append(message)
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            reply = self.server.reply(message)
            time.sleep(reply.wait)
        finally:
            with self.server.lock:
                self.server.at_once -= 1
        if not reply.status:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def do_GET(self) -> None:
        self.server.got.append(Message(self.path, {}, b""))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiving(reply: Callable[[Message], Reply] = lambda _: Reply(), port: int = 0) -> Iterator[Receiver]:
    """A receiver that listens."""
    with Receiver(reply, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
