"""Commands that begin as a fork of a process which has their modules loaded."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ops.supervisor.forked import Forked
from ops.supervisor.process import Program
from shared.sealing import generate_key
from supervisor.installing import family, living
from support.conditions import HANG_SECONDS, until


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A bound socket, as the supervisor hands one to ingress."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


def _program(folder: Path, *descriptors: int, niceness: int = 0) -> Program:
    """`penstock ingress` whose stores are away: it serves all the same."""
    environment = {
        **os.environ,
        "PENSTOCK_DATABASE_URL": "postgresql://penstock:secret@127.0.0.1:9/penstock",
        "PENSTOCK_REDIS_URL": "redis://:secret@127.0.0.1:9/0",
        "PENSTOCK_ENCRYPTION_KEYS": generate_key(),
        "PENSTOCK_DATA_DIR": str(folder),
        "PENSTOCK_CONFIG": str(folder / "penstock.toml"),
        "PENSTOCK_HOST": "127.0.0.1",
    }
    return Program(
        name="ingress-1",
        argv=(sys.executable, "-m", "ops"),
        environment=environment,
        log=folder / "logs" / "ingress-1.log",
        descriptors=descriptors,
        niceness=niceness,
    )


def _ingress(folder: Path, listener: socket.socket, niceness: int = 0) -> Forked:
    handed = listener.fileno()
    arguments = ("ingress", "--fd", str(handed), "--metrics-port", "0")
    return Forked(_program(folder, handed, niceness=niceness), arguments)


def _lives(listener: socket.socket) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/health/live", timeout=1).is_success
    except httpx.TransportError:
        return False


def test_a_fork_is_the_command_as_if_it_had_been_started(tmp_path: Path, listener: socket.socket) -> None:
    """It has the socket, the environment, the log, a session and a name of its own, and it ends when it is told to."""
    process = _ingress(tmp_path, listener, niceness=5)
    try:
        until(lambda: _lives(listener), otherwise="ingress does not answer")
        assert process.ended() is None
        assert process.pid == os.getsid(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, os.getpid()) + 5 == os.getpriority(os.PRIO_PROCESS, process.pid)
        assert "ingress-1\n" == Path(f"/proc/{process.pid}/comm").read_text(encoding="ascii")
        assert "listening" in process.program.log.read_text(encoding="utf-8")
        process.stop()
        assert process.wait(HANG_SECONDS)
        # uvicorn raises the signal again once it has finished
        assert -signal.SIGTERM == process.ended()
    finally:
        process.kill()


def test_a_command_that_fails_says_so_in_its_log(tmp_path: Path) -> None:
    """The sentence is in its own log, and the exit status is that of the command."""
    process = Forked(_program(tmp_path), ("worker", "nobody"))
    try:
        assert process.wait(HANG_SECONDS)
        assert 1 == process.ended()
        assert "there is no provider nobody" in process.program.log.read_text(encoding="utf-8")
    finally:
        process.kill()


def test_the_next_one_is_forked_from_the_same_process(tmp_path: Path, listener: socket.socket) -> None:
    """Its successor loads no module again: the fork server is the same. That it was killed is known."""
    first = _ingress(tmp_path, listener)
    parent = _parent(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait(HANG_SECONDS)
    assert -signal.SIGKILL == first.ended()
    second = _ingress(tmp_path, listener)
    try:
        assert parent == _parent(second.pid)
    finally:
        second.kill()


def test_a_dead_fork_server_takes_its_forks_along_and_is_replaced(tmp_path: Path, listener: socket.socket) -> None:
    """Nobody is left who could not be watched any more; what is started next gets a new one."""
    first = _ingress(tmp_path, listener)
    until(lambda: _lives(listener), otherwise="ingress does not answer")
    server = _parent(first.pid)
    os.kill(server, signal.SIGKILL)
    until(
        lambda: not living({(first.pid, first.started)}),
        otherwise="what was forked lives on without anybody who watches it",
    )
    assert first.ended() is not None
    second = _ingress(tmp_path, listener)
    try:
        assert server != _parent(second.pid)
        until(lambda: _lives(listener), otherwise="ingress does not answer")
    finally:
        second.kill()


def test_a_killed_starter_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL leaves it no time to end anything: the kernel ends the fork server, and then what it has forked."""
    script = f"""
import socket, sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from supervisor.test_forked import _ingress
if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(_ingress(Path({str(tmp_path)!r}), listener).pid, flush=True)
    time.sleep(1000)
"""
    file = tmp_path / "starter.py"
    file.write_text(script, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE) as starter:
        try:
            assert starter.stdout
            forked = int(starter.stdout.readline())
            everybody = family(starter.pid)
        finally:
            starter.kill()
    assert forked in {pid for pid, _ in everybody}
    until(lambda: not living(everybody), otherwise="processes of the killed one live on")


def test_what_is_forked_from_has_nothing_but_code() -> None:
    """No thread, which a fork would cut off in the midst of something, and no connection, which two would share."""
    look = """
import os, sys, stat
import ops.supervisor.preloading
assert {"ingress.server", "workers.app", "workers.relay.relay"} <= sys.modules.keys()
print(len(os.listdir("/proc/self/task")))
print(sum(os.path.exists(each) and stat.S_ISSOCK(os.stat(each).st_mode) for each in
          (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))))
"""
    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, timeout=HANG_SECONDS)
    assert [b"1", b"0"] == done.stdout.split()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
