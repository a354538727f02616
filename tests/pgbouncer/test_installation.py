"""A whole installation whose every process reaches Postgres through pgbouncer, in transaction pooling."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Installation, started
from ops.lab.process import Lab, running_lab
from pgbouncer.bouncer import bouncing
from shared.sealing import generate_key


EVENTS = 40


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab of this module's own."""
    with running_lab(seed=47) as lab:
        yield lab


def test_deliveries_become_records_and_commands_work(lab: Lab, empty_database_url: str, tmp_path: Path) -> None:
    """Migrated, received, planned, fetched, applied, read, reconciled: all with few server connections."""
    with bouncing(empty_database_url, tmp_path) as url:
        variables = {"PENSTOCK_DATABASE_URL": url, "PENSTOCK_ENCRYPTION_KEYS": generate_key()}
        config = lab.config_toml({"base_seconds": 0.2, "max_seconds": 2.0})
        with started(tmp_path, config, "--ingress", "2", variables=variables) as up:
            here = Installation(up.folder, up.code, up.ingress, up.process, lab, variables=variables)
            lab.set_sender(ingress=up.ingress)
            sent = [
                attempt["attempts"][-1]["receipt"]
                for provider in ("imin", "magicline", "paybook", "authenteq")
                for attempt in lab.send(provider, "CUSTOMER_UPDATED" if provider == "magicline" else "", count=EVENTS)
            ]
            finished = here.finished(*sent)
            assert {"done", "duplicate"} >= {row["state"] for row in finished}
            assert 4 * EVENTS == len(finished)
            assert here.records("magicline.customer")
            assert here.records("authenteq.verification")
            assert here.lines("changes", "tail", "--limit", "10")
            assert here.lines("reconcile", "magicline")
            log = (tmp_path / "up.log").read_text() + "".join(
                path.read_text() for path in (tmp_path / ".penstock" / "logs").glob("*.log") if "redis" not in path.name
            )
    assert "prepared statement" not in log
    assert "Traceback" not in log
