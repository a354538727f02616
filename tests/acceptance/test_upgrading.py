"""An upgrade without a stop: the version before works on with the new schema, and is replaced under load.

What is honest to say of it. The version before is that of the last tag. As long as nothing is released it is the parent
of this commit; then there is one migration, which is edited in place, so nothing leads from the parent's schema to that
of this commit. So two things are shown:

- the version before receives, follows up and relays on the schema of *this* version, from the first delivery on (with a
  tag: on its own schema, which this version migrates under load);
- the *next* migration, which only this test has and which does what migrations are allowed to (a table, a column that
  may be empty, a column with a constant default, an index), is applied while the version before is under load. A
  migration that holds locks for long, or that the version before cannot live with, would show here as refused
  deliveries or unfinished events.

Both versions run with the libraries of this one.
"""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from installation import PROVIDERS, ROOT
from ops.lab.process import Lab
from rolling import Rolling, code_of, judged, under_load, version_before


PACKAGES = ("ingress", "workers", "shared", "ops", "penstock")
INGRESS = 2

NEXT = '''
"""What the next version might add. Only the test of upgrades has it."""

from alembic import op


revision = "9999_next"
down_revision = "{newest}"
branch_labels = depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    op.execute("CREATE TABLE next_things (id bigint PRIMARY KEY, event_id uuid NOT NULL)")
    op.execute("ALTER TABLE events ADD COLUMN next_note text")
    op.execute("ALTER TABLE fetches ADD COLUMN next_rank int NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE records ADD COLUMN next_rank int NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE changes ADD COLUMN next_note text")
    op.execute("CREATE INDEX next_notes ON changes (next_note) WHERE next_note IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError
'''


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The code of this commit, and one migration more."""
    code = tmp_path / "next"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    versions = code / "shared" / "store" / "migrations" / "versions"
    newest = max(path.stem for path in versions.glob("*.py"))
    (versions / "9999_next.py").write_text(NEXT.replace("{newest}", _revision(versions / f"{newest}.py")))
    return code


def _revision(migration: Path) -> str:
    line = next(line for line in migration.read_text().splitlines() if line.startswith("revision"))
    return line.partition("=")[2].strip().strip("\"'")


def start_all(rolling: Rolling, version: str, code: Path) -> None:
    """Two ingress processes, a worker of all providers, a relay."""
    for number in range(INGRESS):
        start_ingress(rolling, version, code, number)
    rolling.start(f"{version}-worker", code, "worker", *PROVIDERS, "--concurrency", "1")
    rolling.start(f"{version}-relay", code, "relay")


def start_ingress(rolling: Rolling, version: str, code: Path, number: int) -> None:
    """One that listens on the address that all share."""
    rolling.start(f"{version}-ingress-{number}", code, "ingress", "--fd", str(rolling.listener.fileno()))


def upgrade(rolling: Rolling, code: Path) -> None:
    """What docs/operating.md says: migrate, then replace processes one after the other."""
    rolling.penstock(code, "migrate")
    rolling.penstock(code, "migrate", "--check")
    for number in range(INGRESS):
        start_ingress(rolling, "new", code, number)
        rolling.drain(f"old-ingress-{number}")
    rolling.start("new-worker", code, "worker", *PROVIDERS, "--concurrency", "1")
    rolling.drain("old-worker")
    rolling.start("new-relay", code, "relay")
    rolling.drain("old-relay")


def test_every_process_is_replaced_under_load_without_a_failed_request_or_a_lost_event(
    rolling: Rolling, unlimited_lab: Lab, next_version: Path, tmp_path: Path
) -> None:
    """Each delivery is acknowledged at its first attempt, stored once as it was sent, and followed up to its end."""
    commit, released = version_before()
    before = code_of(commit, tmp_path / "before")
    rolling.penstock(before if released else ROOT, "migrate")
    start_all(rolling, "old", before)

    ledger = under_load(rolling, unlimited_lab, lambda: upgrade(rolling, next_version))
    result = asyncio.run(judged(rolling, unlimited_lab, ledger, time.monotonic()))

    assert [] == result.why, "\n".join(result.why)
    assert (0, 0, 0) == (result.lost, result.altered, result.doubled)
    assert (0, 0) == (result.refused, result.unanswered)
    assert result.sent == result.acknowledged == result.stored == result.finished
    assert {"new-ingress-0", "new-ingress-1", "new-worker", "new-relay"} == set(rolling.running)
    assert "9999_next" in rolling.penstock(next_version, "migrate", "--check")


def test_a_schema_that_is_older_than_the_code_is_said(rolling: Rolling, next_version: Path) -> None:
    """``migrate --check`` changes nothing and ends with exit status 1, so that a deployment can wait for it."""
    rolling.penstock(ROOT, "migrate")
    asked = rolling.ended(next_version, "migrate", "--check")
    assert (1, "") == (asked.returncode, asked.stdout)
    assert "this version needs 9999_next: run `penstock migrate`" in asked.stderr
