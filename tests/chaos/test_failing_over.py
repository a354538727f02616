"""A Redis with replicas and sentinels whose primary dies under load: `penstock chaos` as one types it."""

import subprocess
import sys
from pathlib import Path

import msgspec

from installation import ROOT, clean_environment
from ops.chaos.verdict import Result
from support.conditions import HANG_SECONDS


def test_nothing_is_lost_when_sentinel_fails_over_and_the_same_workers_go_on(tmp_path: Path) -> None:
    """Events are followed up again by processes that nobody restarted; how soon is for `make chaos` to judge."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ops", "chaos", "--scenario", "redis-failed-over", "--patient", "--json"),
            *("--folder", str(tmp_path)),
        ],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        timeout=2 * HANG_SECONDS,
        check=False,
    )

    assert 0 == done.returncode, done.stdout.decode() + done.stderr.decode()
    (result,) = [msgspec.json.decode(line, type=Result) for line in done.stdout.splitlines()]
    assert 400 <= result.sent
    assert result.sent == result.acknowledged == result.stored == result.finished
    assert (0, 0, 0) == (result.lost, result.altered, result.doubled)
    assert result.taken_up_seconds is not None
    assert [] == [*tmp_path.iterdir()], "an installation that passed is not left behind"
