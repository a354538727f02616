"""Processes of one installation, each started by itself as in production, of one version of the code or the other."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from installation import ROOT, clean_environment
from ops.chaos.evidence import Witness
from ops.chaos.scenario import Scenario, Stage
from ops.chaos.sending import Sender, Sent
from ops.chaos.traffic import Intent, intents
from ops.chaos.verdict import Result, judge
from ops.lab.process import Lab
from ops.supervisor.process import Process, Program
from support.conditions import HANG_SECONDS, until


RATE = 15.0
MOST = 3000
"""Deliveries that are there to be sent; the upgrade ends long before the last of them."""
AROUND = 30
"""So many are sent before it and after it."""
FINISHED_WITHIN = HANG_SECONDS
ANSWERED_WITHIN = 60.0
"""How fast answers are is measured elsewhere; here one that does not come at all fails."""
LOADED = {"ingress": "ingress", "worker": "workers/follow_up", "relay": "workers/relay"}
"""A folder of modules that each process loads: Python leaves its byte code there, which shows whose they are."""
GIT = shutil.which("git") or "/usr/bin/git"
TAR = shutil.which("tar") or "/bin/tar"


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
    folder.mkdir(exist_ok=True)
    subprocess.run([TAR, "-x", "-C", str(folder)], input=packed, check=True)
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
            timeout=HANG_SECONDS,
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
            # -P: else the folder in which the tests run would come before that of the version.
            argv=[sys.executable, "-P", "-m", "ops", *arguments, "--heartbeat", str(heartbeat)],
            environment=clean_environment(code, self.variables)
            | {"PENSTOCK_METRICS_PORT": "0", "PYTHONDONTWRITEBYTECODE": ""},
            log=self.folder / "logs" / f"{name}.log",
            descriptors=(self.listener.fileno(),),
        )
        process = self.running[name] = Process(program)

        def beats() -> bool:
            assert process.ended() is None, self.log(name)
            return heartbeat.exists()

        until(beats, otherwise=lambda: self.log(name))
        assert (code / LOADED[arguments[0]] / "__pycache__").is_dir(), f"{name} does not run the code in {code}"

    def drain(self, name: str) -> None:
        """Ask a process to end (SIGTERM), and wait until it has finished what it holds."""
        process = self.running.pop(name)
        os.kill(process.pid, signal.SIGTERM)
        until(lambda: process.ended() is not None, otherwise=lambda: self.log(name))
        # uvicorn hands the signal on to itself when it is done; a worker that Celery's pool keeps from ending though
        # nothing is left to do is ended by its own watchdog.
        assert process.ended() in {0, -signal.SIGTERM, os.EX_SOFTWARE}, self.log(name)

    def kill(self, name: str) -> None:
        """End a process at once (SIGKILL), with all that belongs to it."""
        process = self.running.pop(name)
        process.kill()
        assert process.wait(HANG_SECONDS)

    def log(self, name: str) -> str:
        """The end of what a process said."""
        return (self.folder / "logs" / f"{name}.log").read_text()[-4000:]

    def stop(self) -> None:
        """End everything."""
        for process in self.running.values():
            process.stop()
        for process in self.running.values():
            if not process.wait(HANG_SECONDS):
                process.kill()
                process.wait(HANG_SECONDS)


def under_load(rolling: Rolling, lab: Lab, work: Callable[[], None]) -> list[Sent]:
    """Every delivery from before the work began until after it was done.

    They are sent by a thread: processes are to be started from the main one, with which they would end.
    """
    begun, over = threading.Event(), threading.Event()
    address = f"http://127.0.0.1:{rolling.listener.getsockname()[1]}"

    def due() -> Iterator[Intent]:
        left = AROUND
        for number, intent in enumerate(intents("upgrade", MOST)):
            if number == AROUND:
                begun.set()
            left -= over.is_set()
            if left <= 0:
                return
            yield intent

    async def send() -> list[Sent]:
        async with Sender(lab.url("control"), lambda: address, keep_alive=False, seconds=ANSWERED_WITHIN) as sender:
            await sender.send(due(), RATE)
            return sender.ledger

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(asyncio.run, send())
        try:
            while not begun.wait(0.5):
                assert not sending.done(), sending.result()
            work()
        finally:
            over.set()
        return sending.result()


async def judged(rolling: Rolling, lab: Lab, ledger: list[Sent], since: float) -> Result:
    """What became of them, once everything is finished."""
    witness = Witness(
        rolling.variables["PENSTOCK_DATABASE_URL"],
        rolling.variables["PENSTOCK_BLOB_URL"],
        rolling.variables["PENSTOCK_ENCRYPTION_KEYS"],
    )
    receipts = {sent.receipt for sent in ledger if sent.acknowledged}
    recovered = None
    while (waited := time.monotonic() - since) < FINISHED_WITHIN and recovered is None:
        recovered = waited if await witness.finished(receipts) else None
        await asyncio.sleep(0.2)
    calls = await asyncio.to_thread(lab.calls, "", "", 0, 100_000)
    return judge(REPLACED, 1, ledger, await witness.read(calls["calls"]), recovered)


async def _nothing(_: Stage) -> None:
    """What happens is played by the test."""


REPLACED = Scenario(
    name="replaced",
    does="Processes are replaced by others.",
    protects="both versions can live with the schema; SIGTERM drains",
    play=_nothing,
    within_seconds=FINISHED_WITHIN,
)
