"""`penstock status`."""

from collections.abc import Sequence
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.console import Console
from rich.table import Table

from ops.cli.examples import examples
from ops.installation import Installation, NotedProcess, running
from shared.settings import Settings, without_password


app = typer.Typer(add_completion=False)

_SECONDS = 2.0


@app.command(epilog=examples("penstock status", "penstock status --json"))
def status(as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False) -> None:
    """Which processes of `penstock up` run, and which stores they use. Exit status 1 when none runs here."""
    found = running(Settings.read().data)
    described = describe(found)
    if as_json:
        typer.echo(orjson.dumps(described).decode())
    elif found is None:
        typer.echo(
            "No `penstock up` runs here: start it, or set PENSTOCK_DATA_DIR to where it runs. Processes started one by"
            " one are shown by what started them (systemctl, docker compose ps), and their work by `penstock stats`.",
            err=True,
        )
    else:
        _show(described, found)
    if found is None:
        raise typer.Exit(1)


def describe(found: Installation | None) -> dict[str, Any]:
    """The object of ``penstock status --json``; URLs without their passwords."""
    if found is None:
        return {"processes": [], "database_url": None, "redis_url": None, "ready": False}
    processes = [
        {"name": each.name, "pid": each.pid, "port": each.port, "alive": each.alive} for each in found.processes
    ]
    return {
        "processes": processes,
        "database_url": without_password(found.database_url),
        "redis_url": without_password(found.redis_url),
        "ready": _complete(processes) and _takes_deliveries(found.ingress_url),
    }


def _complete(processes: Sequence[dict[str, Any]]) -> bool:
    """Whether everything runs: while an installation starts, only its stores do."""
    return any(each["name"].startswith("ingress-") for each in processes) and all(each["alive"] for each in processes)


def _takes_deliveries(ingress_url: str) -> bool:
    return _answer(f"{ingress_url}/health/ready") == httpx.codes.OK


def _answer(url: str) -> int | None:
    """The status of a GET; None without an answer."""
    try:
        with httpx.Client(trust_env=False, timeout=_SECONDS) as client:
            return client.get(url).status_code
    except httpx.HTTPError:
        return None


def _state(process: NotedProcess) -> str:
    if not process.alive:
        return "is down; it is started again"
    if process.ready_url and (_answer(process.ready_url) or 500) >= httpx.codes.INTERNAL_SERVER_ERROR:
        return "runs, but is not ready"
    return "runs"


def _show(described: dict[str, Any], found: Installation) -> None:
    console = Console(highlight=False)
    table = Table("process", "pid", "port", "", box=None, pad_edge=False)
    for each in found.processes:
        table.add_row(each.name, str(each.pid), str(each.port or ""), _state(each))
    console.print(table)
    for sentence in found.missing:
        console.print(sentence, markup=False, soft_wrap=True)
    console.print(f"database {described['database_url']}", markup=False, soft_wrap=True)
    console.print(f"redis    {described['redis_url']}", markup=False, soft_wrap=True)
    console.print("ready" if described["ready"] else "not ready")
