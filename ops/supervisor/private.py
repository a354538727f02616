"""Small files that only their owner may read: passwords, keys, the note of a running installation."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_private(file: Path, content: bytes) -> None:
    """Write the whole file at once, mode 0600: a reader finds the old content or the new, never half of it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)


def kept_secret(file: Path, make: Callable[[], str]) -> str:
    """The secret in this file, made at first use."""
    if not file.exists():
        write_private(file, make().encode("ascii"))
    return file.read_text(encoding="ascii").strip()


def password() -> str:
    """A new password that needs no quoting in a URL."""
    return secrets.token_urlsafe(24)
