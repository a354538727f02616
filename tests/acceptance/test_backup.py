"""A backup taken while everything runs, put into an empty installation, has the same records and goes on."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from installation import Installation, clean_environment, running
from ops.lab.faults import Fault
from ops.lab.process import Lab, running_lab
from support.conditions import HANG_SECONDS, until


UPDATED = "CUSTOMER_UPDATED"
RETRY = {"base_seconds": 0.2, "max_seconds": 2.0}


class BackedUp(NamedTuple):
    """A backup, and what the installation held at its moment."""

    folder: Path
    key_file: Path
    records: list[dict[str, Any]]
    done: list[str]
    pending: list[str]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of this module's own."""
    with running_lab(seed=31) as lab:
        yield lab


@pytest.fixture(scope="module")
def backed_up(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> BackedUp:
    """Records of every provider, a body in the blob store, and events that wait for an API that is down."""
    home = tmp_path_factory.mktemp("before")
    target = tmp_path_factory.mktemp("backups") / "first"
    with running(home, lab, lab.config_toml(RETRY)) as installation:
        done = [
            sent["attempts"][-1]["receipt"]
            for provider, event in (("imin", ""), ("magicline", UPDATED), ("paybook", ""), ("authenteq", ""))
            for sent in lab.send(provider, event, count=3)
        ]
        installation.finished(*done)
        lab.set_faults(Fault("status", provider="magicline", status=503))
        pending = [sent["attempts"][-1]["receipt"] for sent in lab.send("magicline", UPDATED, count=3)]
        until(lambda: "processing" not in states(installation, pending))
        records = installation.lines("records", "list", "--limit", "0")
        installation.penstock("backup", str(target))
    return BackedUp(target, home / ".penstock" / "keys", records, done, pending)


@pytest.fixture
def empty(tmp_path: Path, backed_up: BackedUp) -> Path:
    """A folder with nothing but the key."""
    (tmp_path / ".penstock").mkdir(mode=0o700)
    shutil.copy(backed_up.key_file, tmp_path / ".penstock" / "keys")
    return tmp_path


def states(installation: Installation, events: list[str]) -> set[str]:
    """The states of these events."""
    return {row["state"] for row in installation.events() if row["id"] in events}


def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a folder where nothing runs."""
    return subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def test_a_restored_installation_has_the_same_records_and_finishes_what_was_pending(
    lab: Lab, backed_up: BackedUp, empty: Path
) -> None:
    """Nobody needs to start anything anew: the events that waited are done once the API answers."""
    restored = typed(empty, "restore", str(backed_up.folder))
    assert (0, True) == (restored.returncode, restored.stdout.startswith("Restored: ")), restored.stderr
    with running(empty, lab, lab.config_toml(RETRY)) as installation:
        assert backed_up.records == installation.lines("records", "list", "--limit", "0")
        body = installation.penstock("events", "body", backed_up.done[0])
        assert body
        lab.reset()
        finished = installation.finished(*backed_up.done, *backed_up.pending)
    assert {"done"} == {row["state"] for row in finished}


def test_the_drill_touches_nothing(backed_up: BackedUp, tmp_path: Path) -> None:
    """It restores into stores that are gone afterwards, wherever it is typed."""
    drilled = typed(tmp_path, "restore", str(backed_up.folder), "--drill")
    assert 0 == drilled.returncode, drilled.stderr
    assert "can be restored" in drilled.stdout
    assert [] == list(tmp_path.iterdir())


def test_an_installation_that_holds_data_is_left_alone(backed_up: BackedUp, empty: Path) -> None:
    """A second restore is refused with a sentence, as is one into a database that somebody else uses."""
    assert 0 == typed(empty, "restore", str(backed_up.folder)).returncode
    again = typed(empty, "restore", str(backed_up.folder))
    assert (1, "") == (again.returncode, again.stdout)
    assert "the database has tables already" in again.stderr


def test_a_backup_that_was_altered_is_refused(backed_up: BackedUp, empty: Path, tmp_path: Path) -> None:
    """A dump of which a byte is another is found before anything is written."""
    altered = tmp_path / "altered"
    shutil.copytree(backed_up.folder, altered)
    content = bytearray((altered / "postgres.dump").read_bytes())
    content[len(content) // 2] ^= 1
    (altered / "postgres.dump").write_bytes(content)

    refused = typed(empty, "restore", str(altered))

    assert 1 == refused.returncode
    assert "is not what was written at the backup" in refused.stderr


def test_a_backup_that_was_not_finished_is_none(backed_up: BackedUp, empty: Path, tmp_path: Path) -> None:
    """The manifest comes last."""
    unfinished = tmp_path / "unfinished"
    shutil.copytree(backed_up.folder, unfinished)
    (unfinished / "manifest.json").unlink()

    refused = typed(empty, "restore", str(unfinished))

    assert 1 == refused.returncode
    assert "holds no finished backup" in refused.stderr


def test_a_folder_that_is_there_is_not_written_into(backed_up: BackedUp, empty: Path) -> None:
    """Neither a backup nor anything else is overwritten."""
    typed(empty, "restore", str(backed_up.folder))
    before = sorted(backed_up.folder.rglob("*"))
    refused = typed(empty, "backup", str(backed_up.folder))
    assert 1 == refused.returncode
    assert before == sorted(backed_up.folder.rglob("*"))
