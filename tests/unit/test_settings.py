"""Settings from the environment: directly, or from files as containers are handed their secrets."""

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import Settings


def test_a_variable_that_names_a_file_is_read_from_it(tmp_path: Path) -> None:
    """White space around the value, such as an editor's last line break, does not count."""
    (tmp_path / "url").write_text("postgresql://penstock:secret@db/penstock\n")

    settings = Settings.read({"PENSTOCK_DATABASE_URL_FILE": str(tmp_path / "url")})

    assert settings.database_url is not None
    assert "postgresql://penstock:secret@db/penstock" == settings.database_url.get_secret_value()


def test_what_is_set_directly_comes_before_a_file(tmp_path: Path) -> None:
    """The file is not even looked at."""
    missing = str(tmp_path / "missing")

    settings = Settings.read({"PENSTOCK_INGRESS_PORT": "8001", "PENSTOCK_INGRESS_PORT_FILE": missing})

    assert 8001 == settings.ingress_port


def test_several_keys_in_one_file_are_several_keys(tmp_path: Path) -> None:
    """A list is split the same way wherever it stands."""
    (tmp_path / "keys").write_text("new,old\n")

    settings = Settings.read({"PENSTOCK_ENCRYPTION_KEYS_FILE": str(tmp_path / "keys")})

    assert ["new", "old"] == [key.get_secret_value() for key in settings.encryption_keys]


def test_a_file_that_is_not_there_is_named_with_its_variable(tmp_path: Path) -> None:
    """Rather than starting with embedded stores because a secret was not mounted."""
    with pytest.raises(SettingsError, match=r"PENSTOCK_REDIS_URL_FILE: .*missing cannot be read"):
        Settings.read({"PENSTOCK_REDIS_URL_FILE": str(tmp_path / "missing")})
