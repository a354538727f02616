"""A whole installation with an application beside it: functions by entry point, a URL, and what may befall them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
from standardwebhooks.webhooks import Webhook

from handlers.conftest import SECRET, Store
from handlers.receiving import Reply, receiving
from installation import Running, clean_environment, started
from ops.installation import find
from shared.settings import Settings
from support.conditions import HANG_SECONDS, until


APPLICATION = """
import os
import time
from pathlib import Path

from penstock import Change, on
from penstock.records import MagiclineCustomer


def note(name, change):
    with Path("calls.log").open("a") as log:
        log.write(f"{name} {change.external_id} {change.seq} {change.id}\\n")


@on("magicline.customer", name="plain", ops={"updated"})
def plain(change: Change[MagiclineCustomer]):
    note("plain", change)


@on("magicline.customer", name="deadly")
def deadly(change):
    note("deadly", change)
    if change.external_id == "2":
        os.kill(os.getpid(), 9)


@on("magicline.customer", name="hanging", timeout_seconds=2)
def hanging(change):
    note("hanging", change)
    if change.external_id == "2":
        time.sleep(3600)
"""

ENTRY_POINTS = "[penstock.handlers]\nshop = shop\nbroken = nowhere\n"

TIMING = "[timing]\nbeat_seconds = 1.0\nlease_seconds = 6.0\n[retry]\nbase_seconds = 0.2\nmax_attempts = 2\n"


def _install(folder: Path) -> None:
    """The application, as an installed package shows itself."""
    (folder / "shop.py").write_text(APPLICATION)
    metadata = folder / "shop-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)


def _store(up: Running) -> Store:
    url = find(Settings.read({"PENSTOCK_DATA_DIR": str(up.folder / ".penstock")})).database_url
    assert url is not None
    return Store(url.get_secret_value())


def test_whatever_befalls_one_change_the_others_arrive(tmp_path: Path) -> None:
    """One handler's function kills its worker, another hangs, a module cannot be imported; a URL gets everything."""
    _install(tmp_path)
    handler = f'[[handlers]]\nname = "crm"\nkinds = ["magicline.customer"]\nsecret = "{SECRET}"\n'
    with receiving(lambda _: Reply()) as app, started(tmp_path, f'{TIMING}{handler}url = "{app.url}"\n') as up:
        processes = orjson.loads(up.penstock("status", "--json"))["processes"]
        assert "worker-handlers" in {process["name"] for process in processes}
        store = _store(up)
        store.change(5)

        def settled() -> dict[tuple[str, str], int] | None:
            rows = store.run("SELECT handler, state, count(*) FROM handovers GROUP BY 1, 2")
            found = {(row["handler"], row["state"]): row["count"] for row in rows}
            finished = sum(count for (_, state), count in found.items() if state in {"done", "parked"})
            return found if finished == 20 else None

        expected = {
            ("crm", "done"): 5,
            ("plain", "done"): 5,
            ("deadly", "done"): 4,
            ("deadly", "parked"): 1,
            ("hanging", "done"): 4,
            ("hanging", "parked"): 1,
        }
        assert expected == until(settled, otherwise=lambda: store.run("SELECT * FROM handovers WHERE state <> 'done'"))
        reasons = store.run("SELECT handler, error_reason, deaths FROM handovers WHERE state = 'parked' ORDER BY 1")
        assert [("deadly", "poison", 3), ("hanging", "attempts-used-up", 0)] == [tuple(row) for row in reasons]
        calls = [line.split() for line in (tmp_path / "calls.log").read_text().splitlines()]
        assert Counter({"1": 1, "2": 3, "3": 1, "4": 1, "5": 1}) == Counter(c[1] for c in calls if c[0] == "deadly")
        assert 1 == len({call[3] for call in calls if call[1] == "2"})
        for message in app.got:
            Webhook(SECRET).verify(message.body, dict(message.headers))
        assert {call[3] for call in calls} == {message.id for message in app.got}
        assert {call[3] for call in calls} == {row["id"] for row in up.lines("changes", "tail")}
        _settings_without(tmp_path)
        findings = {row["item"]: row for row in _check(up)}
        assert "cannot be imported" in findings["handlers broken = nowhere"]["sentence"]
        assert "neither in the settings" in findings["handler crm"]["sentence"]
        assert "1 are parked" in findings["handler deadly"]["sentence"]
        assert ("fix", True) == (
            findings["handler plain"]["level"],
            "shop.plain" in findings["handler plain"]["sentence"],
        )
        listed = {row["name"]: row for row in up.lines("handlers", "list")}
        assert {"crm", "plain", "deadly", "hanging"} == set(listed)
        assert (0, 1) == (listed["deadly"]["behind"], listed["deadly"]["parked"])


def test_the_first_handler_needs_no_restart(tmp_path: Path) -> None:
    """Where there was none, the process that hands over is started when one appears in the settings."""
    handler = f'[[handlers]]\nname = "crm"\nsecret = "{SECRET}"\n'

    def names(up: Running) -> set[str]:
        return {process["name"] for process in orjson.loads(up.penstock("status", "--json"))["processes"]}

    with receiving(lambda _: Reply()) as app, started(tmp_path, "") as up:
        assert "worker-handlers" not in names(up)
        (tmp_path / "penstock.toml").write_text(f'{handler}url = "{app.url}"\nstart = "beginning"\n')
        store = _store(up)
        store.change(3)
        assert until(lambda: len(app.got) == 3, otherwise=(tmp_path / "up.log").read_text)
        assert "worker-handlers" in names(up)


def _settings_without(folder: Path) -> None:
    """Neither ``crm`` any more nor a name of its own for another one."""
    clash = f'[[handlers]]\nname = "plain"\nsecret = "{SECRET}"\nurl = "http://127.0.0.1:1"\n'
    (folder / "penstock.toml").write_text(TIMING + clash)


def _check(up: Running) -> list[dict[str, str]]:
    """What ``penstock check`` prints, whatever it ends with."""
    done = subprocess.run(
        [sys.executable, "-m", "ops", "check", "--json"],
        cwd=up.folder,
        env=clean_environment(up.code),
        capture_output=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    return [orjson.loads(line) for line in done.stdout.splitlines()]
