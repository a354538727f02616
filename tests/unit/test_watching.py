"""The configuration follows its files, and a mistake changes nothing."""

import asyncio
import os
import time
from pathlib import Path

import pytest
import structlog.testing

from shared.errors import SettingsError
from shared.watching import ConfigurationWatch


def account(name: str, key: str) -> str:
    """A section of the file."""
    return (
        f'[[magicline.accounts]]\nname = "{name}"\nwebhook_keys = ["{key}"]\n'
        f'api_key = "api-{name}"\nbase_url = "https://{name}.open-api.magicline.com"\n'
    )


def names(watch: ConfigurationWatch) -> list[str]:
    """The accounts in force."""
    return sorted(watch.current.accounts.get("magicline", {}))


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A file with one account."""
    path = tmp_path / "penstock.toml"
    path.write_text(account("berlin", "key-1"), encoding="utf-8")
    return path


def test_a_change_is_taken_over(toml: Path) -> None:
    """A new account is there after the next look, and the version grew."""
    watch = ConfigurationWatch(toml)
    assert (["berlin"], 1) == (names(watch), watch.version)
    toml.write_text(account("berlin", "key-1") + account("hamburg", "key-2"), encoding="utf-8")
    assert watch.refresh()
    assert (["berlin", "hamburg"], 2) == (names(watch), watch.version)


def test_no_change_costs_nothing(toml: Path) -> None:
    """Without a change nothing is read again."""
    watch = ConfigurationWatch(toml)
    current = watch.current
    assert not watch.refresh()
    assert current is watch.current


def test_a_file_replaced_by_rename_is_noticed(toml: Path, tmp_path: Path) -> None:
    """A file of the same size and time that took the other's place is a change (as configuration tools write)."""
    watch = ConfigurationWatch(toml)
    other = tmp_path / "other"
    other.write_text(account("munich", "key-1"), encoding="utf-8")
    status = toml.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(toml)
    assert watch.refresh()
    assert ["munich"] == names(watch)


def test_a_file_that_is_named_is_watched_too(toml: Path, tmp_path: Path) -> None:
    """A key that is read from a file changes with that file."""
    secret = tmp_path / "key"
    secret.write_text("first\n", encoding="utf-8")
    toml.write_text(account("berlin", f"file:{secret}"), encoding="utf-8")
    watch = ConfigurationWatch(toml)
    secret.write_text("second!\n", encoding="utf-8")
    assert watch.refresh()
    (berlin,) = watch.current.accounts["magicline"].values()
    assert ["second!"] == [key.get_secret_value() for key in berlin.inbound_secrets()]


def test_a_mistake_leaves_the_old_settings_in_force(toml: Path) -> None:
    """A file that does not validate is named in the log once, and the old accounts stay."""
    watch = ConfigurationWatch(toml)
    with structlog.testing.capture_logs() as log:
        toml.write_text("[[magicline.accounts]]\nnam = 1\n", encoding="utf-8")
        assert not watch.refresh()
        assert not watch.refresh()
    assert (["berlin"], 1) == (names(watch), watch.version)
    assert 1 == len(log)
    assert "magicline" in log[0]["reason"]
    assert watch.problem == log[0]["reason"]
    toml.write_text(account("cologne", "key-3"), encoding="utf-8")
    assert watch.refresh()
    assert (["cologne"], None) == (names(watch), watch.problem)


def test_a_named_file_that_comes_later_mends_a_mistake(toml: Path, tmp_path: Path) -> None:
    """A configuration that was refused for a missing file is taken over when that file appears."""
    watch = ConfigurationWatch(toml)
    secret = tmp_path / "late"
    toml.write_text(account("late", f"file:{secret}"), encoding="utf-8")
    assert not watch.refresh()
    secret.write_text("key", encoding="utf-8")
    assert watch.refresh()
    assert ["late"] == names(watch)


def test_a_mistake_that_is_taken_back_is_forgotten(toml: Path, tmp_path: Path) -> None:
    """A file that was moved away and back is as it was, and nothing is wrong any more."""
    secret = tmp_path / "key"
    secret.write_text("key", encoding="utf-8")
    toml.write_text(account("berlin", f"file:{secret}"), encoding="utf-8")
    watch = ConfigurationWatch(toml)
    secret.rename(tmp_path / "elsewhere")
    assert not watch.refresh()
    assert watch.problem
    (tmp_path / "elsewhere").rename(secret)
    watch.refresh()
    assert watch.problem is None


def test_a_missing_file_is_an_empty_configuration_until_it_comes(tmp_path: Path) -> None:
    """Ingress may start before its accounts are written."""
    path = tmp_path / "penstock.toml"
    watch = ConfigurationWatch(path)
    assert [] == names(watch)
    path.write_text(account("berlin", "key-1"), encoding="utf-8")
    assert watch.refresh()
    assert ["berlin"] == names(watch)


def test_a_mistake_at_start_is_an_error(toml: Path) -> None:
    """There are no old settings to keep when the first reading fails."""
    toml.write_text("no toml", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"penstock\.toml"):
        ConfigurationWatch(toml)


def test_running_watch_notices_by_itself(toml: Path) -> None:
    """The task looks at the files without being told to."""
    watch = ConfigurationWatch(toml)

    def change_and_wait() -> None:
        toml.write_text(account("hamburg", "key-2"), encoding="utf-8")
        end = time.monotonic() + 5
        while watch.version == 1 and time.monotonic() < end:
            time.sleep(0.05)

    async def run_meanwhile() -> None:
        task = asyncio.create_task(watch.run())
        await asyncio.to_thread(change_and_wait)
        task.cancel()

    asyncio.run(run_meanwhile())
    assert ["hamburg"] == names(watch)
