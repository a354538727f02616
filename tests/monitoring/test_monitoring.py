"""The alerts and the dashboard name only figures that exist, each alert has its page, and promtool's tests pass."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from ops.chaos.scenarios import SCENARIOS
from tests.monitoring.exported import exported


ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"

SERIES = re.compile(r"\b(penstock_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
BY = re.compile(r"\b(?:by|on) \(([^)]*)\)")

HEADINGS = ("## Symptom", "## What it means", "## Look at", "## Do")
NO_SCENARIO = {
    "spool-entry-unreadable",
    "settings-vanish",
    "key-rotated",
    "credentials-revoked",
    "account-silent",
    "handler-down",
    "handler-refuses",
    "loop-fails",
    "duty-locked",
    "worker-fails",
}
"""Faults of the world around an installation, which no scenario plays."""


def rules() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """The dashboard's expressions by the panel's title."""
    board = orjson.loads((MONITORING / "dashboard.json").read_bytes())
    return {panel["title"]: [target["expr"] for target in panel.get("targets", ())] for panel in board["panels"]}


def unit_tests() -> list[dict[str, Any]]:
    """The tests that promtool runs."""
    found: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.test.yml").read_text())["tests"]
    return found


def unknown(expression: str) -> set[str]:
    """What an expression names that no process exports: series, and labels of them."""
    known = exported()
    wrong = set()
    for name, matchers in SERIES.findall(expression):
        if name not in known:
            wrong.add(name)
        else:
            wrong |= {f"{name}{{{label}}}" for label in LABEL.findall(matchers) if label not in known[name]}
    labels = {label for name, _ in SERIES.findall(expression) for label in known.get(name, ())}
    for names in BY.findall(expression):
        wrong |= {f"by ({label})" for label in re.findall(r"\w+", names) if label not in labels}
    return wrong


@pytest.mark.parametrize("alert", rules())
def test_an_alert_names_only_what_is_exported(alert: str) -> None:
    """A rule on a figure that nobody exports would never fire, or always."""
    assert set() == unknown(rules()[alert]["expr"])


@pytest.mark.parametrize("title", panels())
def test_a_panel_names_only_what_is_exported(title: str) -> None:
    """A panel on a figure that nobody exports would be empty."""
    assert set() == {name for expression in panels()[title] for name in unknown(expression)}


def test_a_name_that_is_not_exported_is_found() -> None:
    """The look at expressions sees wrong series, wrong labels and wrong groupings."""
    assert {"penstock_nothing"} == unknown("rate(penstock_nothing[5m])")
    assert {"penstock_events{account}"} == unknown('penstock_events{account="main"}')
    assert {"by (worker)"} == unknown("sum by (worker) (penstock_events)")


def test_everything_exported_is_on_the_dashboard() -> None:
    """A figure that nobody shows is a figure that nobody knows of."""
    shown = " ".join(expression for expressions in panels().values() for expression in expressions)
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    assert set() == {name for name in families if name not in shown}


@pytest.mark.parametrize("alert", rules())
def test_an_alert_has_a_runbook(alert: str) -> None:
    """The page is named after the alert, and says what is seen, what it means, where to look and what to do."""
    page = RUNBOOKS / f"{alert}.md"
    assert f"docs/runbooks/{alert}.md" == rules()[alert]["annotations"]["runbook"]
    text = page.read_text()
    assert text.startswith(f"# {alert}\n")
    assert list(HEADINGS) == [line for line in text.splitlines() if line.startswith("## ")]
    assert "`penstock " in text
    assert f"({alert}.md)" in (RUNBOOKS / "README.md").read_text()


def test_a_runbook_has_an_alert() -> None:
    """No page is left behind by an alert that is gone."""
    assert {*rules(), "README"} == {page.stem for page in RUNBOOKS.glob("*.md")}


@pytest.mark.parametrize("alert", rules())
def test_an_alert_is_tested(alert: str) -> None:
    """It fires in the shape of a fault, not before the fault, and not in a quiet hour."""
    quiet, *faults = unit_tests()
    assert [[]] * 2 == [
        check.get("exp_alerts", []) for check in quiet["alert_rule_test"] if check["alertname"] == alert
    ]
    own = [test for test in faults if test["name"].endswith(f": {alert}")]
    assert own
    for test in own:
        assert [False, True] == [bool(check.get("exp_alerts")) for check in test["alert_rule_test"]]
        scenario = test["name"].partition(": ")[0]
        assert scenario in SCENARIOS.keys() | NO_SCENARIO


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml"), ("check", "config", "prometheus.yml")],
    ids=" ".join,
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    """Prometheus reads the rules and the example of its configuration, and the rules' own tests pass."""
    promtool = shutil.which("promtool", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed: apt-get install prometheus")
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    done = subprocess.run(
        [promtool, *arguments], cwd=MONITORING, check=False, capture_output=True, text=True, timeout=60
    )
    assert 0 == done.returncode, done.stdout + done.stderr
