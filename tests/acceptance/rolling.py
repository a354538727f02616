"""Processes of one installation, each started by itself as in production, of one version of the code or the other."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from installation import ROOT, clean_environment, until
from ops.supervisor.process import Process, Program


GIT = shutil.which("git") or "/usr/bin/git"
DRAINS_WITHIN = 60.0
READY_WITHIN = 90.0


def version_before() -> tuple[str, bool]:
    """The commit of the last release, else the parent of this one; and whether it is a release.

    Without a history the test is skipped; on CI, which clones all of it, it fails.
    """
    tag = _git("describe", "--tags", "--abbrev=0")
    if tag:
        return tag, True
    if parent := _git("rev-parse", "--verify", "--quiet", "HEAD^"):
        return parent, False
    sentence = "there is no history to take the version before from: clone the whole repository"
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def code_of(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    packed = subprocess.run([GIT, "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> str:
    done = subprocess.run([GIT, *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass
class Rolling:
    """What runs; ``listener`` is handed to every ingress, as a service manager or a load balancer keeps one address."""

    folder: Path
    variables: Mapping[str, str]
    listener: socket.socket
    running: dict[str, Process] = field(default_factory=dict)

    def ended(self, code: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of that version, whatever came of it."""
        return subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=self.folder,
            env=clean_environment(code, self.variables),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def penstock(self, code: Path, *arguments: str) -> str:
        """What a command of that version prints; its failure fails the test."""
        done = self.ended(code, *arguments)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    def start(self, name: str, code: Path, *arguments: str) -> None:
        """Start a process of that version, and wait until its heart beats, which it does once it works."""
        heartbeat = self.folder / "beats" / name
        heartbeat.parent.mkdir(exist_ok=True)
        program = Program(
            name=name,
            argv=[sys.executable, "-m", "ops", *arguments, "--heartbeat", str(heartbeat)],
            environment=clean_environment(code, self.variables) | {"PENSTOCK_METRICS_PORT": "0"},
            log=self.folder / "logs" / f"{name}.log",
            descriptors=(self.listener.fileno(),),
        )
        process = self.running[name] = Process(program)

        def beats() -> bool:
            assert process.ended() is None, self.log(name)
            return heartbeat.exists()

        until(beats, READY_WITHIN, lambda: self.log(name))

    def drain(self, name: str) -> None:
        """Ask a process to end (SIGTERM), and wait until it has finished what it holds."""
        process = self.running.pop(name)
        os.kill(process.pid, signal.SIGTERM)
        until(lambda: process.ended() is not None, DRAINS_WITHIN, lambda: self.log(name))
        # uvicorn hands the signal on to itself when it is done.
        assert process.ended() in {0, -signal.SIGTERM}, self.log(name)

    def log(self, name: str) -> str:
        """The end of what a process said."""
        return (self.folder / "logs" / f"{name}.log").read_text()[-4000:]

    def stop(self) -> None:
        """End everything."""
        for process in self.running.values():
            process.stop()
        for process in self.running.values():
            if not process.wait(20):
                process.kill()
                process.wait(5)
