"""Postgres' own programs, pg_dump and pg_restore: those on the PATH or those that come with the embedded server."""

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ops.embedded.postgres import programs
from shared.database_url import PGBOUNCER, Database, goes_through_pgbouncer
from shared.errors import PenstockError, SettingsError
from shared.store.postgres import connect_once


async def pg_dump(url: str, file: Path, *, snapshot: str) -> None:
    """The whole database as that snapshot sees it. Raises PenstockError with what the program said."""
    await _run("pg_dump", url, "--format=custom", f"--snapshot={snapshot}", "--no-owner", f"--file={file}")


async def pg_restore(url: str, file: Path) -> None:
    """Everything or nothing. Raises PenstockError with what the program said."""
    await _run("pg_restore", url, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(file))


def sha256_of(file: Path) -> str:
    """The file's digest, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


async def _run(name: str, url: str, *arguments: str) -> None:
    if goes_through_pgbouncer(url):
        raise SettingsError(
            f"PENSTOCK_DATABASE_URL: {name} needs Postgres itself, not pgbouncer: name the server for this command,"
            " without ?pgbouncer=true"
        )
    program = await _program(name, await _server_major(url))
    with _conninfo(Database.read(url)) as (told, environment):
        command = (str(program), f"--dbname={told}", "--no-password", *arguments)
        status, _, said = await _ended(command, **environment)
    if status:
        last = said.strip().splitlines()[-1:] or [f"exit status {status}"]
        raise PenstockError(f"{name} did not succeed: {last[0]}")


async def _program(name: str, major: int) -> Path:
    """The one of the server's version, else the newest: an older one cannot read the server. Raises SettingsError."""
    found: dict[int, Path] = {}
    with suppress(SettingsError):
        found |= await _versioned(programs() / name)
    if on_path := shutil.which(name):
        found |= await _versioned(Path(on_path))
    if not found:
        raise SettingsError(f"{name} is not installed: install the client programs of Postgres {major}")
    return found[major] if major in found else found[max(found)]


async def _versioned(program: Path) -> dict[int, Path]:
    """``pg_dump (PostgreSQL) 18.4`` is 18."""
    _, said, _ = await _ended((str(program), "--version"))
    version = re.search(r"\b(\d+)\.\d+", said)
    return {int(version[1]): program} if version else {}


async def _server_major(url: str) -> int:
    connection = await connect_once(url)
    try:
        return connection.get_server_version().major
    finally:
        await connection.close()


async def _ended(command: Sequence[str], **environment: str) -> tuple[int, str, str]:
    """Exit status, output and errors. A cancellation ends the program too."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **environment},
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")


@contextmanager
def _conninfo(database: Database) -> Iterator[tuple[str, Mapping[str, str]]]:
    """What libpq connects with, and the environment for it: no secret is on a command line, which everybody may read.

    A password goes by its variable; a key's passphrase has none, and goes by a file of services that is only ours.
    """
    told = {name: text for name, text in database.parameters.items() if name not in _NOT_LIBPQ}
    told |= {
        "host": ",".join(host.name for host in database.hosts),
        "port": ",".join(str(host.port) for host in database.hosts),
        "user": database.user,
        "dbname": database.name,
    }
    if any(host.address != host.name for host in database.hosts):
        told["hostaddr"] = ",".join(host.address for host in database.hosts)
    environment: dict[str, str] = {"HOME": os.environ.get("HOME", "/")}
    if database.given_password is not None:
        environment["PGPASSWORD"] = database.given_password
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        if passphrase := told.pop("sslpassword", ""):
            file = Path(folder) / "service"
            file.write_text(f"[penstock]\nsslpassword={passphrase}\n", encoding="utf-8")
            environment["PGSERVICEFILE"] = str(file)
            told["service"] = "penstock"
        yield " ".join(f"{name}={_quoted(text)}" for name, text in told.items()), environment


_NOT_LIBPQ: Final = frozenset({PGBOUNCER, "servicefile"})
"""Ours; and what has been read already (older versions of libpq do not know it)."""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
