"""One command at a time in a data directory: two would start two servers on the same data."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import SettingsError


@contextmanager
def only_one(data: Path, part: str, command: str) -> Iterator[None]:
    """Hold ``<data>/<part>/lock``; the kernel lets go of it when this process ends. Raises SettingsError."""
    folder = data / part
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"PENSTOCK_DATA_DIR: {data} cannot be written in: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode().strip()
        os.close(descriptor)
        raise SettingsError(
            f"`{command}` already runs in {data} (process {pid}): stop it, or set PENSTOCK_DATA_DIR to another folder"
        ) from None
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
