"""The running installation: what `penstock up` notes in its data directory, and how every other command finds it."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from pydantic import SecretStr

from ops.supervisor.alive import alive
from ops.supervisor.private import write_private
from shared.errors import SettingsError
from shared.settings import Settings


class NotedProcess(msgspec.Struct, frozen=True):
    """A process of the installation. ``started`` tells it from a later process with its id."""

    name: str
    pid: int
    started: int
    port: int | None = None
    ready_url: str = ""
    """Answers once the process is ready; empty where nothing tells."""

    @property
    def alive(self) -> bool:
        """Whether this very process runs."""
        return alive(self.pid, self.started)


class Installation(msgspec.Struct, frozen=True):
    """Everything that another command needs in order to work with the running installation. URLs carry passwords."""

    supervisor: NotedProcess
    processes: Sequence[NotedProcess]
    ingress_url: str
    database_url: str
    redis_url: str
    blob_url: str | None
    config: str
    encryption_keys_file: str | None
    flower_password: str
    missing: Sequence[str] = ()
    """A sentence for each process that cannot be started now, and why."""


def _file(data: Path) -> Path:
    return data / "run" / "installation.json"


def note(data: Path, installation: Installation) -> None:
    """Write it down, in one step, for its owner alone."""
    write_private(_file(data), msgspec.json.encode(installation))


def forget(data: Path) -> None:
    """Take the note away at the end of a run."""
    _file(data).unlink(missing_ok=True)


def running(data: Path) -> Installation | None:
    """The installation that runs in this data directory now; None if none does. Raises SettingsError."""
    try:
        found = msgspec.json.decode(_file(data).read_bytes(), type=Installation)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    except PermissionError:
        raise SettingsError(
            f"{_file(data)} belongs to another user: run this as the user who runs `penstock up`"
        ) from None
    return found if found.supervisor.alive else None


def find(settings: Settings, *, database: bool = True, redis: bool = False) -> Settings:
    """The settings with what is unset filled in from the running installation.

    Raises SettingsError when there is no database to be found although one is wanted, or no Redis.
    """
    settings = completed(settings)
    for name, wanted in (("database", database), ("redis", redis)):
        if wanted and getattr(settings, f"{name}_url") is None:
            raise SettingsError(f"no {name}: start `penstock up` here, or set PENSTOCK_{name.upper()}_URL")
    return settings


def completed(settings: Settings) -> Settings:
    """The settings with what is unset filled in from the running installation, if one runs. Raises SettingsError."""
    found = running(settings.data)
    return settings.model_copy(update=_missing(settings, found)) if found else settings


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables, for a program that is started with them."""
    values = settings.model_dump(exclude_none=True)
    return {f"PENSTOCK_{name.upper()}": text for name, value in values.items() if (text := _text(value))}


def _missing(settings: Settings, found: Installation) -> dict[str, object]:
    secrets = {
        "database_url": found.database_url,
        "redis_url": found.redis_url,
        "flower_password": found.flower_password,
    }
    update: dict[str, object] = {
        name: SecretStr(value) for name, value in secrets.items() if getattr(settings, name) is None
    }
    if settings.blob_url is None:
        update["blob_url"] = found.blob_url
    if "config" not in settings.model_fields_set:
        update["config"] = Path(found.config)
    if not settings.encryption_keys and found.encryption_keys_file:
        keys = Path(found.encryption_keys_file).read_text(encoding="ascii").strip()
        update["encryption_keys"] = tuple(SecretStr(key) for key in keys.split(","))
    return update


def _text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(_text(part) for part in value)
    return str(value)
