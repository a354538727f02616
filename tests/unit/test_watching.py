"""The configuration follows its files, and a mistake changes nothing."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing

from shared.errors import SettingsError
from shared.watching import ConfigurationWatch, Known


REMOVAL = '[settings]\nremoval = "file"\n'
"""The end of a file that says that what it lacks is removed."""


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
    other.write_text(account("berlin", "key-2"), encoding="utf-8")
    status = toml.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(toml)
    assert watch.refresh()
    (berlin,) = watch.current.accounts["magicline"].values()
    assert ["key-2"] == [key.get_secret_value() for key in berlin.inbound_secrets()]


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
    assert (["berlin", "cologne"], None) == (names(watch), watch.problem)


def test_a_named_file_that_comes_later_mends_a_mistake(toml: Path, tmp_path: Path) -> None:
    """A configuration that was refused for a missing file is taken over when that file appears."""
    watch = ConfigurationWatch(toml)
    secret = tmp_path / "late"
    toml.write_text(account("late", f"file:{secret}"), encoding="utf-8")
    assert not watch.refresh()
    secret.write_text("key", encoding="utf-8")
    assert watch.refresh()
    assert ["berlin", "late"] == names(watch)


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


def remove(path: Path) -> None:
    """No file at all."""
    path.unlink()


def empty(path: Path) -> None:
    """As at the beginning of ``cp`` over it."""
    path.write_text("", encoding="utf-8")


def cut(path: Path) -> None:
    """As on a full disk, at the end of a line."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[[magicline.accounts]]", 1)], encoding="utf-8")


def into_a_directory(path: Path) -> None:
    """As Docker makes of a file that is not there when it is mounted."""
    path.unlink()
    path.mkdir()


def into_a_dangling_link(path: Path) -> None:
    """As between the two steps of a mount of Kubernetes that goes wrong."""
    path.unlink()
    path.symlink_to(path.parent / "..data" / "penstock.toml")


def into_zeros(path: Path) -> None:
    """As after a crash of the machine."""
    path.write_bytes(bytes(path.stat().st_size))


def into_half_a_line(path: Path) -> None:
    """Not TOML."""
    path.write_text(path.read_text(encoding="utf-8")[:-10], encoding="utf-8")


def into_what_no_parser_takes(path: Path) -> None:
    """Nested too deeply for Python, whatever it means."""
    path.write_text("x = " + "[" * 100_000, encoding="utf-8")


VANISHING = (
    remove, empty, cut, into_a_directory, into_a_dangling_link, into_zeros, into_half_a_line, into_what_no_parser_takes
)  # fmt: skip


@pytest.mark.parametrize("vanish", VANISHING)
def test_settings_that_vanish_stay_in_force(toml: Path, vanish: Callable[[Path], None]) -> None:
    """All of them, accounts and others; that it is so is said once, and what is put back is in force as before."""
    text = account("berlin", "key-1") + account("hamburg", "key-2") + "[retention]\nbodies = 365\n"
    toml.write_text(text, encoding="utf-8")
    watch = ConfigurationWatch(toml)
    with structlog.testing.capture_logs() as log:
        vanish(toml)
        assert [False, False] == [watch.refresh(), watch.refresh()]
    assert (["berlin", "hamburg"], 365, 1) == (names(watch), watch.current.retention["imin"].bodies, watch.version)
    assert watch.trouble
    assert "in force" in watch.trouble
    assert ["error"] == [line["log_level"] for line in log]
    assert not watch.is_removed("magicline", "hamburg")

    if toml.is_dir():
        toml.rmdir()
    toml.unlink(missing_ok=True)
    toml.write_text(text + account("munich", "key-3"), encoding="utf-8")
    assert watch.refresh()
    assert (["berlin", "hamburg", "munich"], None) == (names(watch), watch.trouble)


def test_two_halves_that_are_both_valid_take_nothing_away(toml: Path) -> None:
    """One account each: what the second half brings is added to what the first one had."""
    berlin, hamburg, munich = (account(name, f"key-{name}") for name in ("berlin", "hamburg", "munich"))
    toml.write_text(berlin + hamburg, encoding="utf-8")
    watch = ConfigurationWatch(toml)
    for half in (berlin, hamburg, munich):
        toml.write_text(half, encoding="utf-8")
        watch.refresh()
    assert ["berlin", "hamburg", "munich"] == names(watch)
    assert ["[[magicline.accounts]] berlin", "[[magicline.accounts]] hamburg"] == watch.vanished
    assert "[[magicline.accounts]] berlin" in (watch.trouble or "")


def test_a_file_that_says_so_removes_what_it_lacks(toml: Path) -> None:
    """With its own last lines; the file before said nothing of it."""
    toml.write_text(account("berlin", "key-1") + account("hamburg", "key-2"), encoding="utf-8")
    watch = ConfigurationWatch(toml)
    toml.write_text(account("hamburg", "key-2") + REMOVAL, encoding="utf-8")
    assert watch.refresh()
    assert (["hamburg"], None, True) == (names(watch), watch.trouble, watch.is_removed("magicline", "berlin"))
    toml.write_text(account("hamburg", "key-2"), encoding="utf-8")
    watch.refresh()
    assert ["[settings]"] == watch.vanished
    toml.write_text("", encoding="utf-8")
    watch.refresh()
    assert (["hamburg"], False) == (names(watch), watch.is_removed("magicline", "berlin"))


def test_an_account_that_was_removed_by_command_goes_and_may_return(toml: Path) -> None:
    """Only once the file lacks it; and what the file has (again) is in force, whatever was said of it before."""
    both = account("berlin", "key-1") + account("hamburg", "key-2")
    toml.write_text(both, encoding="utf-8")
    watch = ConfigurationWatch(toml)
    toml.write_text(account("berlin", "key-1"), encoding="utf-8")
    watch.refresh()
    assert ["berlin", "hamburg"] == names(watch)
    removed = frozenset({("magicline", "hamburg")})
    watch.learn(Known(frozenset(watch.accounts()), removed))
    assert watch.refresh()
    assert (["berlin"], None) == (names(watch), watch.trouble)
    assert (True, False) == (watch.is_removed("magicline", "hamburg"), watch.in_doubt("magicline"))
    toml.write_text(both, encoding="utf-8")
    assert watch.refresh()
    toml.write_text(account("berlin", "key-1"), encoding="utf-8")
    watch.refresh()
    assert ["berlin", "hamburg"] == names(watch)


def test_a_key_that_moves_to_another_name_says_what_to_do(toml: Path) -> None:
    """The account that vanished still has it; the sentence names both."""
    watch = ConfigurationWatch(toml)
    toml.write_text(account("munich", "key-1"), encoding="utf-8")
    assert not watch.refresh()
    assert "no longer has [[magicline.accounts]] berlin" in (watch.problem or "")


def test_a_process_without_settings_knows_which_accounts_it_lacks(tmp_path: Path) -> None:
    """Until it could ask it is in doubt of all; then of those that were in force and were not removed."""
    watch = ConfigurationWatch(tmp_path / "penstock.toml")
    assert [True, True] == [watch.in_doubt(provider) for provider in ("imin", "magicline")]
    known = frozenset({("imin", "main"), ("magicline", "berlin"), ("magicline", "hamburg")})
    watch.learn(Known(known, frozenset({("imin", "main"), ("magicline", "hamburg")})))
    assert [False, True] == [watch.in_doubt(provider) for provider in ("imin", "magicline")]
    assert {"berlin"} == set(watch.absent("magicline"))
    assert 1 == watch.missing


def test_a_file_that_is_being_written_is_left_alone(toml: Path) -> None:
    """Two looks must see the same; one that never rests is taken as it is after some looks."""
    watch = ConfigurationWatch(toml)
    toml.write_text(account("berlin", "key-2"), encoding="utf-8")
    assert [False, True] == [watch.look(), watch.look()]
    looks = []
    for number in range(5):
        toml.write_text(account("berlin", f"another-{'x' * number}"), encoding="utf-8")
        looks.append(watch.look())
    assert [False, False, False, True, False] == looks


def test_a_link_that_is_swapped_is_a_change(toml: Path, tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: ``..data`` is a link to a folder, renamed into place."""
    for name, key in (("first", "key-1"), ("second", "key-2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "penstock.toml").write_text(account("berlin", key), encoding="utf-8")
    data = tmp_path / "..data"
    data.symlink_to("first")
    toml.unlink()
    toml.symlink_to("..data/penstock.toml")
    watch = ConfigurationWatch(toml)
    swapped = tmp_path / "..tmp"
    swapped.symlink_to("second")
    swapped.replace(data)
    assert watch.refresh()
    (berlin,) = watch.current.accounts["magicline"].values()
    assert ["key-2"] == [key.get_secret_value() for key in berlin.inbound_secrets()]


@pytest.mark.parametrize("said", ["", "\n"])
def test_a_secret_that_is_emptied_leaves_the_old_one_in_force(toml: Path, tmp_path: Path, said: str) -> None:
    """As it is between the two halves of writing it."""
    secret = tmp_path / "key"
    secret.write_text("first", encoding="utf-8")
    toml.write_text(account("berlin", f"file:{secret}"), encoding="utf-8")
    watch = ConfigurationWatch(toml)
    secret.write_text(said, encoding="utf-8")
    assert not watch.refresh()
    assert "empty" in (watch.problem or "")


@pytest.mark.parametrize(
    "text",
    [
        "retry = 1\n",
        "[[retry]]\nbase_seconds = 1\n",
        "imin = []\n",
        "[imin]\nretry = 3\n",
        "handlers = 5\n",
        "[[imin]]\n",
        "retention = 1\n",
        "settings = 1\n",
        f"[retry]\nmax_attempts = {'9' * 5000}\n",
        '[[imin.accounts]]\nname = "a"\napi_key = "file:a\\u0000b"\n',
    ],
)
def test_whatever_the_file_says_is_a_sentence(tmp_path: Path, text: str) -> None:
    """Never a traceback, which would end the watch: the settings would never be read again."""
    path = tmp_path / "penstock.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError):
        ConfigurationWatch(path)


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
    assert ["berlin", "hamburg"] == names(watch)
