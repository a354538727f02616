"""`penstock up` as a whole: real servers, stand-ins for the other children."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
import redis

from ops.cli.status import describe
from ops.embedded.redis import Redis
from ops.installation import find, running
from ops.supervisor.supervisor import LATE_SECONDS
from shared.errors import SettingsError
from shared.settings import Settings
from supervisor.installing import family, living, started
from support.conditions import HANG_SECONDS, until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only its owner may enter, deeper than the path of a Unix socket may be."""
    deep = tmp_path / "only mine" / ("d" * 110)
    deep.mkdir(parents=True)
    (tmp_path / "only mine").chmod(0o700)
    return deep


def _pid(data: Path, name: str) -> int:
    found = running(data)
    return next((each.pid for each in found.processes if each.name == name and each.alive), 0) if found else 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _status(data: Path) -> str:
    code = "from ops.cli.status import app; app()"
    environment = {**os.environ, "PENSTOCK_DATA_DIR": str(data), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    return done.stdout


def test_a_run_from_start_to_end(folder: Path) -> None:
    """All processes run and are found; a second run is refused; a dead child is replaced; SIGINT leaves nothing."""
    with started(folder, STUB_PLAIN="1") as up:
        found = up.ready()
        names = [each.name for each in found.processes]
        assert [
            "postgres",
            "redis",
            "ingress-1",
            "worker-imin",
            "worker-paybook",
            "relay",
            "console",
            "flower",
        ] == names
        described = describe(found)
        assert described["ready"] is True
        assert "postgresql://penstock@127.0.0.1" in described["database_url"]
        assert found.database_url not in up.output

        settings = find(Settings.read({"PENSTOCK_DATA_DIR": str(up.data)}), redis=True)
        assert settings.database_url is not None
        assert found.database_url == settings.database_url.get_secret_value()
        assert (up.data / "keys").read_text().strip() == settings.encryption_keys[0].get_secret_value()
        private = ("keys", "flower-password", "postgres-password", "redis-password", "run/installation.json")
        assert {0o600} == {stat.S_IMODE((up.data / name).stat().st_mode) for name in private}

        with started(folder.parent, PENSTOCK_DATA_DIR=str(up.data)) as second:
            assert second.ended() == 1
            assert f"already runs in {up.data} (process {up.process.pid})" in second.output

        for name in ("worker-imin", "redis", "postgres"):
            killed = _pid(up.data, name)
            below = family(killed) if name == "worker-imin" else set()
            os.kill(killed, signal.SIGKILL)
            until(
                lambda name=name, killed=killed: _pid(up.data, name) not in {0, killed},
                otherwise=f"{name} is not replaced",
            )
            until(lambda below=below: not living(below), otherwise="the children of the dead worker live on")
        assert f"worker-imin ended (signal {signal.SIGKILL.value})" in up.output

        until(
            lambda: "imin received 4 done 3 waiting 1 failed 0 parked 0 duplicate 0 due 0.2 s" in up.output,
            otherwise="no counts",
        )

        everybody = family(up.process.pid)
        up.process.send_signal(signal.SIGINT)
        assert up.ended(15) == 0
        assert set() == living(everybody)
        with pytest.raises(SettingsError, match="start `penstock up` here, or set PENSTOCK_DATABASE_URL"):
            find(Settings.read({"PENSTOCK_DATA_DIR": str(up.data)}))


def test_a_child_that_stands_still_is_replaced(folder: Path) -> None:
    """Its process is there and holds its connections, but its heartbeat stops: ingress and the relay like a worker."""
    with started(folder) as up:
        up.ready()
        names = ("ingress-1", "relay", "worker-imin")
        still = {name: _pid(up.data, name) for name in names}
        for pid in still.values():
            os.kill(pid, signal.SIGSTOP)
        for name, pid in still.items():
            until(lambda name=name, pid=pid: _pid(up.data, name) not in {0, pid}, otherwise=f"{name} is not replaced")
            assert f"{name} (process {pid}) gave no sign of life" in up.output


def test_what_follows_up_stands_back_behind_ingress_and_the_stores(folder: Path) -> None:
    """Within the processor's queue: an acknowledgement is awaited by somebody, follow-up is not."""
    with started(folder) as up:
        found = up.ready()
        niceness = {each.name: os.getpriority(os.PRIO_PROCESS, each.pid) for each in found.processes}
    own = niceness["ingress-1"]
    behind = {name for name, nice in niceness.items() if nice > own}
    assert {"worker-imin", "worker-paybook", "console", "flower"} == behind


def test_a_killed_supervisor_leaves_nothing_and_the_next_one_goes_on(folder: Path) -> None:
    """After SIGKILL every process ends by itself; the next run starts at once, with the data and ports of before."""
    with started(folder) as first:
        before = first.ready()
        with redis.Redis.from_url(before.redis_url) as client:
            client.set("kept", "yes")
        everybody = family(first.process.pid)
        first.process.kill()
        first.process.wait()
        with started(folder) as second:
            after = second.ready()
            until(lambda: not living(everybody), otherwise="processes of the killed run live on")
            assert (before.database_url, before.redis_url) == (after.database_url, after.redis_url)
            with redis.Redis.from_url(after.redis_url) as client:
                assert b"yes" == client.get("kept")


def test_stops_when_started_with_ignored_sigint(folder: Path) -> None:
    """A shell script's background job is born with SIGINT ignored; SIGINT ends `penstock up` all the same."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with started(folder) as up:
            signal.signal(signal.SIGINT, handler)
            up.ready()
            up.process.send_signal(signal.SIGINT)
            assert up.ended(15) == 0
    finally:
        signal.signal(signal.SIGINT, handler)


def test_a_child_that_cannot_start_ends_the_run_with_its_own_words(folder: Path) -> None:
    """The sentence that the child wrote into its log is shown, and nothing is left running."""
    with started(folder, STUB_BROKEN="1") as up:
        assert up.ended() == 1
        assert "ingress-1 ended (exit status 1)" in up.output
        assert "the settings are wrong" in up.output
        assert "Traceback" not in up.output


def test_the_taken_port_of_ingress_is_one_sentence(folder: Path) -> None:
    """The sentence names the setting, and no server was started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with started(folder, PENSTOCK_INGRESS_PORT=str(port)) as up:
            assert up.ended() == 1
            expected = f"penstock: port {port} is taken: set PENSTOCK_INGRESS_PORT to another (0 takes any free one)\n"
            assert up.output.endswith(expected)
            assert "Traceback" not in up.output
            assert not (up.data / "postgres").exists()


def test_the_taken_port_of_a_page_costs_that_page_until_it_is_free(folder: Path) -> None:
    """What takes deliveries does not end for what shows them; it is said, and the page begins when it can."""
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as second,
        socket.create_server(("127.0.0.1", 0)) as third,
    ):
        port = other.getsockname()[1]
        taken = {
            "PENSTOCK_CONSOLE_PORT": str(port),
            "PENSTOCK_FLOWER_PORT": str(second.getsockname()[1]),
            "PENSTOCK_METRICS_PORT": str(third.getsockname()[1]),
        }
        with started(folder, **taken) as up:
            until(
                lambda: "Penstock is ready, but for console and flower." in up.output,
                otherwise="not ready without its pages",
            )
            missing = f"port {port} is taken: set PENSTOCK_CONSOLE_PORT to another (0 takes any free one)"
            assert f"console is missing: {missing}." in up.output
            assert "metrics is missing: " in up.output
            assert f"console waits for port {port}, which is taken" in _status(up.data)
            found = running(up.data)
            assert found
            assert describe(found)["ready"] is True

            other.close()
            until(
                lambda: f"console is started: port {port} is free now." in up.output, otherwise="console does not begin"
            )
            until(lambda: _answers(f"http://127.0.0.1:{port}/"), otherwise="it does not answer")


def test_ingress_receives_whatever_console_and_flower_do(folder: Path) -> None:
    """One is late, the other ends again and again: deliveries are taken, and whoever is killed is started again."""
    late = folder / "late"
    with started(folder, STUB_LATE=f"console={late}", STUB_ENDING="flower") as up:
        until(lambda: "flower is started again" in up.output, otherwise="flower is not started again")
        found = running(up.data)
        assert found
        assert httpx.get(f"{found.ingress_url}/health/ready", trust_env=False).is_success
        assert "Penstock is ready" not in up.output
        until(lambda: "runs, but is not ready" in _status(up.data), otherwise="status does not tell of it")

        for name in ("ingress-1", "worker-imin", "relay", "console", "redis"):
            killed = _pid(up.data, name)
            os.kill(killed, signal.SIGKILL)
            until(
                lambda name=name, killed=killed: _pid(up.data, name) not in {0, killed},
                otherwise=f"{name} is not replaced",
            )
        until(
            lambda: "Penstock is ready, but for console and flower." in up.output,
            LATE_SECONDS + HANG_SECONDS,
            otherwise="not ready",
        )
        assert "console is not ready yet after 60 s; everything else goes on meanwhile." in up.output
        late.touch()
        until(lambda: "console is ready." in up.output, otherwise="the console is not told of")
        assert up.process.poll() is None


def test_who_is_killed_before_ingress_answers_is_started_again(folder: Path) -> None:
    """Also ingress itself; a machine without memory to spare is no wrong setting."""
    late = folder / "late"
    with started(folder, STUB_LATE=f"ingress={late}") as up:
        for name in ("ingress-1", "worker-imin", "relay", "console"):
            until(lambda name=name: _pid(up.data, name), otherwise=f"{name} is not there")
            killed = _pid(up.data, name)
            os.kill(killed, signal.SIGKILL)
            until(
                lambda name=name, killed=killed: _pid(up.data, name) not in {0, killed},
                otherwise=f"{name} is not replaced",
            )
        late.touch()
        up.ready()


def test_the_demo_moves_on_from_a_taken_port_and_its_lab_comes_first(folder: Path) -> None:
    """The demo takes the next port and says so; its configuration is the lab's; the password of flower is printed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with started(folder, "--demo", PENSTOCK_CONSOLE_PORT=str(port)) as up:
            found = up.ready()
            assert "lab" == found.processes[2].name
            assert str(up.data / "demo" / "penstock.toml") == found.config
            assert f"Port {port} is taken; console uses" in up.output
            assert f"user penstock, password {found.flower_password}" in up.output


def test_stores_that_are_set_are_used_and_never_started(folder: Path, tmp_path: Path) -> None:
    """With both URLs no server is started, and keys are asked for instead of made."""
    with Redis(tmp_path / "other") as own:
        settings = {"PENSTOCK_DATABASE_URL": "postgresql://u:pw@127.0.0.1:9/x", "PENSTOCK_REDIS_URL": own.url}
        with started(folder, **settings) as up:
            assert up.ended() == 1
            assert "PENSTOCK_ENCRYPTION_KEYS is not set" in up.output
        with started(folder, PENSTOCK_ENCRYPTION_KEYS="key-one,key-two", **settings) as up:
            found = up.ready()
            assert {"postgres", "redis"}.isdisjoint(each.name for each in found.processes)
            assert found.encryption_keys_file is None
            assert "key-one" not in (up.data / "run" / "installation.json").read_text(encoding="utf-8")


def test_a_redis_that_may_drop_keys_is_refused(folder: Path, tmp_path: Path) -> None:
    """The sentence names the policy and hides the password."""
    with Redis(tmp_path / "other") as own:
        with redis.Redis.from_url(own.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        with started(folder, PENSTOCK_REDIS_URL=own.url) as up:
            assert up.ended() == 1
            assert "maxmemory-policy allkeys-lru" in up.output
            assert own.url not in up.output


def test_status_is_the_object_of_the_contract_and_its_exit_status_tells(folder: Path) -> None:
    """`penstock status --json` prints one object with exactly the agreed keys; 1 where nothing runs."""
    code = "from ops.cli.status import app; app()"
    environment = {**os.environ, "PENSTOCK_DATA_DIR": str(folder / "data")}
    command = [sys.executable, "-c", code, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert 1 == done.returncode
    assert {"processes": [], "database_url": None, "redis_url": None, "ready": False} == msgspec.json.decode(
        done.stdout
    )


def test_metrics_of_all_processes_are_on_one_page(folder: Path) -> None:
    """The page answers on its own port, and what an ended process said of the present is taken off."""
    with started(folder) as up:
        up.ready()
        address = up.output.partition("metrics  ")[2].split()[0]
        until(
            lambda: "stub_busy 2.0" in httpx.get(address, trust_env=False).text,
            otherwise="the two workers are not there",
        )
        worker = _pid(up.data, "worker-imin")
        file = up.data / "run" / "metrics" / f"gauge_livesum_{worker}.db"
        assert file.exists()
        os.kill(worker, signal.SIGKILL)
        until(
            lambda: httpx.get(address, trust_env=False).is_success and not file.exists(),
            otherwise="the dead worker's file is still there",
        )
        until(
            lambda: "stub_busy 2.0" in httpx.get(address, trust_env=False).text, otherwise="the new worker is not there"
        )
