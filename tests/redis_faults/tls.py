"""A Redis behind TLS: a certificate of an authority of its own, and a proxy that speaks TLS to the outside.

The embedded program is built without TLS; what is tested is our side, to which it is the same.
"""

import datetime as dt
import ipaddress
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.conditions import HANG_SECONDS


_CHUNK = 65536


def certificate(folder: Path) -> Path:
    """A file with a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "redis.pem"
    file.write_bytes(made.public_bytes(pem) + private)
    return file


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self.target = target
        self._context = context
        super().__init__(("127.0.0.1", 0), _Connection)

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        """The connection once the handshake is done; who breaks it off is forgotten."""
        accepted, address = super().get_request()
        try:
            return self._context.wrap_socket(accepted, server_side=True), address
        except OSError:
            accepted.close()
            raise


class _Connection(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Pass on what comes from either side, until one of them ends."""
        front: ssl.SSLSocket = self.request
        with socket.create_connection(("127.0.0.1", self.server.target)) as back, suppress(OSError):
            while True:
                readable, _, _ = select.select([front, back], [], [])
                for source, sink in ((front, back), (back, front)):
                    if source not in readable:
                        continue
                    if not (chunk := source.recv(_CHUNK)):
                        return
                    while source is front and front.pending():
                        chunk += front.recv(_CHUNK)
                    sink.sendall(chunk)


@contextmanager
def tls_in_front_of(port: int, file: Path) -> Iterator[int]:
    """The port where TLS is spoken, and passed on in the clear."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with _Server(port, context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="tls")
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(HANG_SECONDS)
