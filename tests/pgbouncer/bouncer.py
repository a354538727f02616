"""A real pgbouncer in transaction pooling, in front of the test run's Postgres."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from support.conditions import HANG_SECONDS


BIN = Path(sys.executable).parent
LIBRARIES = BIN.parent / "lib" / "pgbouncer"
SERVERS = 4
"""Connections to Postgres: fewer than there are clients, so that statements do change places."""

_CONFIG = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 200
# Each statement on another server connection than the last one, as under load.
server_round_robin = 1
"""


def program() -> Path:
    """The program; where there is none the test is skipped, and fails on CI."""
    found = shutil.which("pgbouncer", path=f"{BIN}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("pgbouncer is not installed: apt-get install pgbouncer")
        pytest.skip("pgbouncer is not installed (Debian's package of that name; `make test` as root takes the program)")
    return Path(found)


@contextmanager
def bouncing(database_url: str, folder: Path) -> Iterator[str]:
    """The URL of the same database behind pgbouncer, as PENSTOCK_DATABASE_URL says it."""
    parts = urlsplit(database_url)
    listen = _free_port()
    config = folder / "pgbouncer.ini"
    config.write_text(
        _CONFIG.format(
            host=parts.hostname,
            port=parts.port,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            listen=listen,
            servers=SERVERS,
        )
    )
    # It does not run as root.
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [program(), *as_user, config],
            env={"LD_LIBRARY_PATH": str(LIBRARIES)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _until_it_listens(listen, process, folder / "pgbouncer.log")
        yield f"postgresql://penstock@127.0.0.1:{listen}{parts.path}?pgbouncer=true"
    finally:
        process.kill()
        process.wait(HANG_SECONDS)


def _until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
