"""`penstock chaos` as one types it: a short set of scenarios on a whole installation."""

import subprocess
import sys
from pathlib import Path

import msgspec

from installation import ROOT, clean_environment
from ops.chaos.scenarios import SCENARIOS
from ops.chaos.verdict import Result
from support.conditions import HANG_SECONDS


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command, done."""
    return subprocess.run(
        [sys.executable, "-m", "ops", "chaos", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        timeout=2 * HANG_SECONDS,
        check=False,
    )


def test_nothing_is_lost_when_ingress_is_killed_redis_emptied_and_postgres_frozen(tmp_path: Path) -> None:
    """One after the other, all of it under load."""
    names = ("ingress-killed", "redis-flushed", "postgres-frozen")
    chosen = [part for name in names for part in ("--scenario", name)]

    done = run(*chosen, "--events", "100", "--rate", "20", "--patient", "--json", "--folder", str(tmp_path))

    results = [msgspec.json.decode(line, type=Result) for line in done.stdout.splitlines()]
    assert 0 == done.returncode, done.stdout.decode() + done.stderr.decode()
    assert list(names) == [result.scenario for result in results]
    for result in results:
        assert 100 <= result.sent
        assert result.sent == result.acknowledged == result.stored == result.finished
        assert (0, 0, 0) == (result.lost, result.altered, result.doubled)
    assert [] == [*tmp_path.iterdir()], "an installation that passed is not left behind"


def test_every_scenario_says_what_it_does_and_what_protects() -> None:
    """As its line in the list."""
    listed = [msgspec.json.decode(line) for line in run("--list", "--json").stdout.splitlines()]

    assert list(SCENARIOS) == [line["name"] for line in listed]
    assert all(line["does"].endswith(".") and line["protects"] for line in listed)


def test_an_unknown_scenario_is_bad_usage() -> None:
    """The sentence names those that there are."""
    done = run("--scenario", "tea-break")

    assert 2 == done.returncode
    assert b"redis-flushed" in done.stderr
