"""TLS in front of a Postgres whose program is built without it: the request for TLS, the handshake, and bytes."""

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


_CHUNK = 65536
_REQUEST_BYTES = 8


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(
        self, target: int, context: ssl.SSLContext | None, *, only: bool, rewrite: tuple[bytes, bytes]
    ) -> None:
        self.target, self.context, self.only, self.rewrite = target, context, only, rewrite
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer the request for TLS, then pass on what comes from either side until one of them ends."""
        front: socket.socket = self.request
        first = front.recv(_REQUEST_BYTES, socket.MSG_PEEK)
        asked = first == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
        with suppress(OSError):
            if asked and self.server.context is None:
                front.recv(_REQUEST_BYTES)
                front.sendall(b"N")
            elif asked and self.server.context:
                front.recv(_REQUEST_BYTES)
                front.sendall(b"S")
                with self.server.context.wrap_socket(front, server_side=True, do_handshake_on_connect=False) as wrapped:
                    wrapped.do_handshake()
                    self._pass_on(wrapped)
                return
            elif self.server.only:
                return
            self._pass_on(front)

    def _pass_on(self, front: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as back:
            while True:
                readable, _, _ = select.select([front, back], [], [])
                for source, sink in ((front, back), (back, front)):
                    if source not in readable:
                        continue
                    if not (chunk := source.recv(_CHUNK)):
                        return
                    while isinstance(source, ssl.SSLSocket) and source.pending():
                        chunk += source.recv(_CHUNK)
                    sink.sendall(chunk.replace(*self.server.rewrite))


@contextmanager
def tls_postgres(
    port: int,
    certificate: Path | None,
    *,
    only: bool = True,
    clients: Path | None = None,
    rewrite: tuple[bytes, bytes] = (b"\0" * 64, b""),
) -> Iterator[_Server]:
    """A server in front of that port. ``only``: without TLS nobody gets in; ``clients``: who vouches for them.

    ``rewrite``: what is put in the place of what.
    """
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    if context and clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    with _Server(port, context, only=only, rewrite=rewrite) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="tls")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)
