"""Processes that serve load nothing for a screen that they do not have."""

import subprocess
import sys

import pytest

from support.conditions import HANG_SECONDS


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

    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, timeout=HANG_SECONDS)

    assert f"penstock {name}" in done.stdout.decode()


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("ingress", "workers sqlalchemy alembic jinja2 aiohttp httpx tornado flower opentelemetry cloudevents"),
        ("worker", "ingress uvicorn sqlalchemy alembic jinja2 tornado flower opentelemetry cloudevents"),
        ("relay", "ingress uvicorn sqlalchemy alembic jinja2 tornado flower opentelemetry cloudevents"),
    ],
)
def test_a_server_loads_only_what_it_is_for(name: str, foreign: str) -> None:
    """Each of these costs every start of it tens of milliseconds, and memory for as long as it runs."""
    look = f"""
import sys
from ops.cli import load
load({name!r})
print(*sorted({{module.partition(".")[0] for module in sys.modules}} & set({foreign.split()!r})))
print(len(sys.modules))
"""

    done = subprocess.run(
        [sys.executable, "-c", look], check=True, capture_output=True, timeout=HANG_SECONDS, text=True
    )

    loaded, count = done.stdout.splitlines()
    assert "" == loaded
    assert int(count) < 1100, "ingress had 861 modules in all, a worker 995"
