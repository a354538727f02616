"""What `make test` says of tests that fail, and pass when they are played again."""

import os
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).parents[2]
TESTS = """
from pathlib import Path

def test_fails_once():
    assert Path("played").exists() or Path("played").touch()

def test_fails_twice():
    assert Path("mended").exists()
"""


def _run(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_passes_only_when_played_again_is_named(tmp_path: Path) -> None:
    """Printed, and in build/flaky.txt; what fails twice is not among them, and decides the exit status."""
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    assert 1 == _run(tmp_path, "pytest").returncode

    again = _run(tmp_path, "tests.support.second_play")

    assert 1 == again.returncode
    assert "test_some.py::test_fails_once\n" == (tmp_path / "build/flaky.txt").read_text(encoding="utf-8")
    assert "Passed only when played again" in again.stdout
    (tmp_path / "mended").touch()
    assert 0 == _run(tmp_path, "tests.support.second_play").returncode
    assert "test_some.py::test_fails_twice\n" == (tmp_path / "build/flaky.txt").read_text(encoding="utf-8")
