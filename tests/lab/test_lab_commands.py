"""``penstock lab`` as an operator types it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from ops.lab.process import Lab, running_lab
from support.conditions import HANG_SECONDS


PENSTOCK = [sys.executable, "-c", "from ops.cli import main; main()"]
ROOT = Path(__file__).parents[2]


def environment(folder: Path) -> dict[str, str]:
    """The settings of an installation in this folder."""
    return {
        **os.environ,
        "PENSTOCK_CONFIG": str(folder / "penstock.toml"),
        "PENSTOCK_DATA_DIR": str(folder / "data"),
        "PENSTOCK_INGRESS_PORT": "9",
    }


def penstock(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command, run to its end."""
    return subprocess.run(
        [*PENSTOCK, *arguments], cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=False
    )


@contextmanager
def lab_run(folder: Path) -> Iterator[dict[str, int]]:
    """``penstock lab run`` without traffic, until the block ends; its ports."""
    command = [*PENSTOCK, "lab", "run", "--no-traffic", "--config-out", str(folder / "penstock.toml")]
    with subprocess.Popen(command, cwd=ROOT, env=environment(folder), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield msgspec.json.decode(process.stdout.readline())["ports"]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(HANG_SECONDS) == 0


def test_lab_run_leaves_settings_and_a_state_file_that_goes_with_it(tmp_path: Path) -> None:
    """Its one line names the ports; the settings are those that every command reads."""
    state = tmp_path / "data" / "run" / "lab.json"
    with lab_run(tmp_path) as ports:
        assert set(ports) == {"imin", "magicline", "paybook", "authenteq", "control"}
        assert f"http://127.0.0.1:{ports['imin']}" in (tmp_path / "penstock.toml").read_text()
        assert msgspec.json.decode(state.read_bytes())["ports"] == ports
    assert not state.exists()


def test_lab_send_changes_the_running_labs_world_first(tmp_path: Path) -> None:
    """The receiver can read what the delivery is about; here nobody receives, so the exit status is 1."""
    with lab_run(tmp_path):
        done = penstock(tmp_path, "lab", "send", "authenteq")
        assert (done.returncode, done.stderr) == (1, "")
        assert "1 sent, 0 acknowledged" in done.stdout
        assert "the lab's world changed with each" in done.stdout


@pytest.fixture(scope="module")
def playing() -> Iterator[Lab]:
    """A lab whose control API serves as an ingress that refuses (404) every delivery."""
    with running_lab(seed=7) as lab:
        yield lab


def test_lab_send_prints_a_line_for_each_and_a_summary(tmp_path: Path, playing: Lab) -> None:
    """With the status that came back; duplicates count."""
    (tmp_path / "penstock.toml").write_text(playing.config_toml())
    done = penstock(tmp_path, "lab", "send", "imin", "--count", "2", "--duplicate", "--ingress", playing.url("control"))
    lines = done.stdout.splitlines()
    assert [line.split("  ")[:2] for line in lines[:4]] == [["imin/main", "404"]] * 4
    assert "4 sent, 0 acknowledged" in lines[4]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["stripe"], "there is no provider 'stripe'"),
        (["imin", "--account", "other"], "imin has no account 'other'"),
        (["paybook", "--event", "refreshed"], "it sends refresh,"),
        (["imin", "--lab", "http://127.0.0.1:9"], "no lab answers at http://127.0.0.1:9"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(tmp_path: Path, playing: Lab, arguments: list[str], sentence: str) -> None:
    """On standard error, with exit status 1."""
    (tmp_path / "penstock.toml").write_text(playing.config_toml())
    done = penstock(tmp_path, "lab", "send", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_account_says_where_to_put_it(tmp_path: Path) -> None:
    """Without a penstock.toml there is nobody to send as."""
    done = penstock(tmp_path, "lab", "send", "imin")
    assert done.returncode == 1
    assert "add [[imin.accounts]] to it" in done.stderr


def test_a_lab_ends_with_the_process_that_started_it() -> None:
    """When its standard input is closed, without any signal."""
    command = [sys.executable, "-m", "ops.lab.server", '{"with_parent": true}']
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().startswith(b'{"ports"')
        process.stdin.close()
        try:
            assert process.wait(HANG_SECONDS) == 0
        finally:
            process.kill()
