"""Postgres' own programs, pg_dump and pg_restore: those on the PATH or those that come with the embedded server."""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ops.embedded.postgres import programs
from shared.database_url import goes_through_pgbouncer
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
    shown, password = _without_password(url)
    program = await _program(name, await _server_major(url))
    command = (str(program), f"--dbname={shown}", "--no-password", *arguments)
    # A password on a command line is for everybody on the machine to read.
    status, _, said = await _ended(command, PGPASSWORD=password)
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


def _without_password(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit(parts._replace(scheme="postgresql", netloc=user + host)), unquote(parts.password or "")
