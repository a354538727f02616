"""The two files that a database URL may lean on as with libpq: one of services, one of passwords.

https://www.postgresql.org/docs/current/libpq-pgservice.html and .../libpq-pgpass.html
"""

import re
import stat
from pathlib import Path
from typing import Final


_SERVICES: Final = ".pg_service.conf"
_PASSWORDS: Final = ".pgpass"
_FIELDS: Final = 5


class NoService(ValueError):
    """A service that no file has; the sentence says where it was looked for."""


def service_parameters(service: str, file: Path | None) -> dict[str, str]:
    """The parameters of this service, from the file or the one in the home folder. Raises NoService."""
    place = file or _at_home(_SERVICES)
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NoService(f"service={service}: {place} cannot be read: {error}") from None
    found: dict[str, str] | None = None
    for line in map(str.strip, lines):
        if line.startswith("["):
            if found is not None:
                break
            found = {} if line == f"[{service}]" else None
        elif found is not None and line and not line.startswith("#"):
            name, _, text = line.partition("=")
            found[name.strip()] = text.strip()
    if found is None:
        raise NoService(f"service={service}: {place} has no section [{service}]")
    return found


def password_for(file: Path | None, host: str, port: int, database: str, user: str) -> str:
    """The password of the first line that fits; empty where none does, or where others may read the file."""
    place = file or _at_home(_PASSWORDS)
    try:
        status = place.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return ""
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    wanted = (host, str(port), database, user)
    for line in lines:
        # A backslash takes the meaning from a colon or a backslash.
        fields = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"(?:^|:)((?:\\.|[^:\\])*)", line)]
        if line.startswith("#") or len(fields) < _FIELDS:
            continue
        if all(field in {"*", one} for field, one in zip(fields[:4], wanted, strict=True)):
            return fields[4]
    return ""


def _at_home(name: str) -> Path:
    try:
        return Path.home() / name
    except RuntimeError:
        return Path("/nonexistent") / name
