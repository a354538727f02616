"""Stands in for `penstock` in tests of the supervisor: every child, in a few lines and without a store."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import prometheus_client

from ops.supervisor.process import launched


class Answer(http.server.BaseHTTPRequestHandler):
    """Says 200 to everything."""

    def do_GET(self) -> None:
        """An empty 200."""
        self.send_response(200)
        self.end_headers()


def ingress(_fd: str, number: str, *others: str) -> None:
    """Answer on the socket that was handed down; or fail as asked."""
    if "STUB_BROKEN" in os.environ:
        sys.exit("the settings are wrong")
    threading.Thread(target=beat, args=(Path(others[-1]),), daemon=True).start()
    server = http.server.HTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(number))
    server.server_activate()
    server.serve_forever()


def page(variable: str) -> None:
    """Answer on the port that the settings name."""
    http.server.HTTPServer(("127.0.0.1", int(os.environ[variable])), Answer).serve_forever()


def beat(file: Path) -> None:
    """Touch the file again and again."""
    while True:
        file.touch()
        time.sleep(0.5)


def worker(_provider: str, _option: str, heartbeat: str) -> None:
    """Sleep and beat, with a child of its own as a prefork worker has."""
    threading.Thread(target=beat, args=(Path(heartbeat),), daemon=True).start()
    prometheus_client.Gauge("stub_busy", "Busy.", multiprocess_mode="livesum").set(1)
    # Celery has its children killed with their parent (celery.concurrency.prefork, set_pdeathsig).
    command = ["/bin/sleep", "1000"]
    subprocess.run(command if "STUB_PLAIN" in os.environ else launched(command, signal.SIGKILL, None), check=False)


def lab(*arguments: str) -> None:
    """Write the accounts of the demo."""
    Path(arguments[arguments.index("--config-out") + 1]).write_text("# the demo's accounts\n", encoding="utf-8")
    Path(os.environ["PENSTOCK_DATA_DIR"], "run", "lab.json").write_text("{}", encoding="utf-8")
    time.sleep(1000)


CHILDREN = {
    "ingress": ingress,
    "worker": worker,
    "lab": lab,
    "migrate": lambda: print("migrated", os.environ["PENSTOCK_DATABASE_URL"]),  # noqa: T201 - goes into its log
    "relay": lambda _option, heartbeat: beat(Path(heartbeat)),
    "console": lambda: page("PENSTOCK_CONSOLE_PORT"),
    "flower": lambda: page("PENSTOCK_FLOWER_PORT"),
}


def held_up(name: str) -> None:
    """Wait for, or end at once, as STUB_LATE (``NAME=FILE;...``) and STUB_ENDING (``NAME ...``) ask."""
    for each in os.environ.get("STUB_LATE", "").split(";"):
        late, _, file = each.partition("=")
        while late == name and not Path(file).exists():
            time.sleep(0.05)
    if name in os.environ.get("STUB_ENDING", "").split():
        sys.exit(f"{name} has nothing to do here")


if __name__ == "__main__":
    held_up(sys.argv[1])
    CHILDREN[sys.argv[1]](*sys.argv[2:])
