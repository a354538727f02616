"""The relay as a process: what it bears of its stores, and its sign of life."""

import os
import signal
import sys
from pathlib import Path

from ops.embedded.redis import Redis
from ops.supervisor.process import Process, Program
from redis_faults.bench import KEY, ROOT
from support.conditions import HANG_SECONDS, until


def _relay(folder: Path, database_url: str, redis_url: str) -> Program:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PROMETHEUS_"))}
    return Program(
        name="relay",
        argv=[sys.executable, "-m", "ops", "relay", "--heartbeat", str(folder / "heartbeat")],
        environment={
            **clean,
            "PYTHONPATH": str(ROOT),
            "PENSTOCK_DATABASE_URL": database_url,
            "PENSTOCK_REDIS_URL": redis_url,
            "PENSTOCK_DATA_DIR": str(folder),
            "PENSTOCK_CONFIG": str(folder / "penstock.toml"),
            "PENSTOCK_ENCRYPTION_KEYS": KEY,
        },
        log=folder / "relay.log",
    )


def test_a_redis_that_stands_still_is_noticed_and_stops_no_heartbeat(tmp_path: Path, database_url: str) -> None:
    """The tick ends and is tried again, the file is touched meanwhile, and SIGTERM ends the process."""
    heartbeat = tmp_path / "heartbeat"
    with Redis(tmp_path) as server:
        relay = Process(_relay(tmp_path, database_url, server.url))
        try:
            until(heartbeat.exists, otherwise="no sign of life")
            assert server.process
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                until(lambda: "a store is away" in relay.program.log.read_text(), otherwise="it does not notice")
                sign = heartbeat.stat().st_mtime_ns
                until(lambda: heartbeat.stat().st_mtime_ns > sign, otherwise="it gives no sign of life")
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            relay.stop()
            ended = relay.wait(HANG_SECONDS)
        finally:
            relay.kill()

    assert ended
