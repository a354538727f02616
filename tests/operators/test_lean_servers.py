"""Processes that serve load nothing for a screen that they do not have."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["ingress", "worker", "relay", "console", "flower"])
def test_a_server_leaves_rich_to_those_who_show_something(name: str) -> None:
    """Found by its command it has not imported rich's console, and its help can still be shown."""
    look = f"""
import sys
from ops.cli import app
from typer.main import get_command
group = get_command(app)
_, command, _ = group.resolve_command(group.make_context("penstock", ["{name}", "--help"]), ["{name}"])
assert not {{"rich.console", "rich.traceback", "rich.pretty"}} & sys.modules.keys()
sys.argv = ["penstock", "{name}", "--help"]
app(prog_name="penstock")
"""

    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, timeout=60)

    assert f"penstock {name}" in done.stdout.decode()
