"""A whole Penstock, started as an operator starts it and driven from outside only."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson

from ops.lab.process import Lab
from support.conditions import HANG_SECONDS, until


T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PROVIDERS = ("imin", "magicline", "paybook", "authenteq")
FULL = os.environ.get("PENSTOCK_TEST_FULL") == "1"
"""Play what must be shown at its full size, which takes minutes each; the suite plays it smaller."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running ``penstock up``: where it runs, where its code is, and where deliveries go.

    ``variables`` are those that it was started with, and its commands are.
    """

    folder: Path
    code: Path
    ingress: str
    process: subprocess.Popen[bytes]
    variables: Mapping[str, str] | None = field(default=None, kw_only=True)

    def penstock(self, *arguments: str) -> str:
        """What a command prints, typed in the installation's folder; its failure fails the test."""
        done = subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=self.folder,
            env=clean_environment(self.code, self.variables),
            capture_output=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert 0 == done.returncode, done.stderr.decode()
        return done.stdout.decode()

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that a command prints with ``--json``."""
        return [orjson.loads(line) for line in self.penstock(*arguments, "--json").splitlines()]

    def event(self, event: str) -> dict[str, Any]:
        """``events show``."""
        (shown,) = self.lines("events", "show", event)
        return shown

    def events(self, *filters: str) -> list[dict[str, Any]]:
        """``events list`` of everything that the filters let through."""
        return self.lines("events", "list", "--limit", "0", *filters)

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """The records of a kind by external id."""
        return {row["external_id"]: row for row in self.lines("records", "list", "--kind", kind, "--limit", "0")}

    def finished(self, *events: str, within: float = HANG_SECONDS) -> list[dict[str, Any]]:
        """The events, once none of them is received or processing."""

        def settled() -> list[dict[str, Any]] | None:
            rows = {row["id"]: row for row in self.events()}
            found = [rows[event] for event in events]
            return found if all(row["state"] not in {"received", "processing", "waiting"} for row in found) else None

        return until(settled, within, otherwise=lambda: [self.event(event) for event in events][:3])


@dataclass(frozen=True, slots=True)
class Installation(Running):
    """A running ``penstock up`` and the lab that its accounts point to."""

    lab: Lab


def clean_environment(code: Path = ROOT, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The machine's environment without settings of Penstock, and with this code importable from anywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**kept, "PYTHONPATH": str(code), **(variables or {})}


@contextmanager
def running(folder: Path, lab: Lab, config: str, *arguments: str) -> Iterator[Installation]:
    """``penstock up`` with the lab as its providers, ready; the lab's senders deliver to it."""
    with started(folder, config, *arguments) as up:
        lab.set_sender(ingress=up.ingress)
        yield Installation(up.folder, up.code, up.ingress, up.process, lab)


@contextmanager
def started(
    folder: Path, config: str, *arguments: str, code: Path = ROOT, variables: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """``penstock up`` in a folder with this ``penstock.toml``, ready; stopped as Ctrl-C stops it."""
    (folder / "penstock.toml").write_text(config)
    ports = {f"PENSTOCK_{name}_PORT": "0" for name in ("INGRESS", "CONSOLE", "FLOWER", "METRICS")}
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops", "up", *arguments],
            cwd=folder,
            env=clean_environment(code, {**ports, **(variables or {})}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        status = until(lambda: _ready(folder, code, process), otherwise=(folder / "up.log").read_text)
        port = next(each["port"] for each in status["processes"] if each["name"] == "ingress-1")
        yield Running(folder, code, f"http://127.0.0.1:{port}", process, variables=variables)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(HANG_SECONDS)
        finally:
            process.kill()


def _ready(folder: Path, code: Path, process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    assert process.poll() is None, (folder / "up.log").read_text()
    asked = subprocess.run(
        [sys.executable, "-m", "ops", "status", "--json"],
        cwd=folder,
        env=clean_environment(code),
        capture_output=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    status: dict[str, Any] = orjson.loads(asked.stdout) if asked.stdout else {}
    return status if status.get("ready") else None


def post(installation: Running, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    """One delivery, as a provider sends it."""
    return httpx.post(f"{installation.ingress}{path}", content=body, headers=headers, timeout=HANG_SECONDS)
