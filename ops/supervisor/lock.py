"""One `penstock up` a data directory: two would start two servers on the same data."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import SettingsError


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold ``<data>/run/lock``; the kernel lets go of it with this process, however it ends. Raises SettingsError."""
    file = data / "run" / "lock"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"PENSTOCK_DATA_DIR: {data} cannot be written in: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 32).decode().strip()
        os.close(descriptor)
        raise SettingsError(
            f"`penstock up` already runs in {data} (process {pid}): stop it, or set PENSTOCK_DATA_DIR to another folder"
        ) from None
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
