"""Plays once more, alone, what failed, and names what passed only then: that is a fault too, and stands in a file.

``python -m tests.support.second_play [PATH ...]``, after a play of pytest here; ends as the second play ends.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import orjson


FLAKY: Final = Path("build/flaky.txt")
_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")


def main(paths: list[str]) -> int:
    """The exit status of the second play."""
    before = _failed()
    command = [sys.executable, "-m", "pytest", "--last-failed", "--last-failed-no-failures", "none", *paths]
    status = subprocess.run(command, check=False).returncode
    if flaky := sorted(before - _failed()):
        FLAKY.parent.mkdir(exist_ok=True)
        FLAKY.write_text("".join(f"{name}\n" for name in flaky), encoding="utf-8")
        told = "\n".join(f"  {name}" for name in flaky)
        sys.stdout.write(f"Passed only when played again, which is a fault to be found ({FLAKY}):\n{told}\n")
    return status


def _failed() -> set[str]:
    return set(orjson.loads(_FAILED.read_bytes())) if _FAILED.exists() else set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
