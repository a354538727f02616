"""The secrets that an installation on one machine makes for itself when none are set."""

from collections.abc import Callable
from pathlib import Path

from ops.supervisor.private import kept_secret, password
from shared.errors import SettingsError
from shared.sealing import generate_key
from shared.settings import Settings


def keys_file(data: Path) -> Path:
    """Where the made encryption keys are kept, in the form of ``PENSTOCK_ENCRYPTION_KEYS``."""
    return data / "keys"


def encryption_keys(settings: Settings, *, make: bool, say: Callable[[str], None]) -> str:
    """The keys in the form of ``PENSTOCK_ENCRYPTION_KEYS``, made and kept if they may be. Raises SettingsError."""
    if settings.encryption_keys:
        return ",".join(key.get_secret_value() for key in settings.encryption_keys)
    file = keys_file(settings.data)
    if not make and not file.exists():
        raise SettingsError("PENSTOCK_ENCRYPTION_KEYS is not set: `penstock keys generate` prints one")
    say(f"Warning: the encryption key lies beside the data, in {file}; set PENSTOCK_ENCRYPTION_KEYS in production.")
    return kept_secret(file, generate_key)


def flower_password(settings: Settings) -> str:
    """The password of flower's user ``penstock``: the set one, else one made and kept in the data directory."""
    if settings.flower_password:
        return settings.flower_password.get_secret_value()
    return kept_secret(settings.data / "flower-password", password)
