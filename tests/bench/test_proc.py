"""What the bench counts as its own work, so that it does not take it for that of other programs."""

import subprocess
import sys

from ops.bench.proc import own_seconds


_BURN = "import time\nwhile time.process_time() < 0.5: pass"
_PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {_BURN!r}], check=True)
print("done", flush=True)
sys.stdin.read()
"""


def test_the_work_of_a_servers_ended_children_is_our_own() -> None:
    """A server that still runs counts with the work of its children that ended, as Postgres' sessions do."""
    before = own_seconds()
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout
        assert server.stdout.readline() == b"done\n"
        assert own_seconds() - before > 0.4  # the kernel rounds down to ticks
