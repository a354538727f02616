"""A worker with the pool's children, beside a thread of the parent that holds a lock nearly always.

``forked_children.py REDIS_URL FILE``: each child writes into the file whether it can have the lock.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from celery import Celery
from celery.signals import worker_init, worker_process_init

from workers.forking import FORK_LOCK


CHILDREN = 4
held = threading.Lock()
app = Celery("forked", broker=sys.argv[1], set_as_current=False)
app.conf.update(
    worker_pool="workers.pool:TaskPool",
    task_ignore_result=True,
    worker_proc_alive_timeout=240.0,  # by default a child that takes 4 s to start is killed, and there are more of them
)
said = Path(sys.argv[2])


@worker_init.connect
def hold(**_: object) -> None:
    """Hold the lock, with the shortest of pauses."""

    def again_and_again() -> None:
        while True:
            with FORK_LOCK, held:
                time.sleep(0.05)
            time.sleep(0.001)

    threading.Thread(target=again_and_again, daemon=True).start()


@worker_process_init.connect
def take(**_: object) -> None:
    """Say whether this child can have it; the last one ends the worker."""
    with said.open("a", encoding="ascii") as file:
        file.write(f"{held.acquire(timeout=60)}\n")
    if len(said.read_text(encoding="ascii").splitlines()) >= CHILDREN:
        os.kill(os.getppid(), signal.SIGTERM)


if __name__ == "__main__":
    app.Worker(concurrency=CHILDREN, loglevel="ERROR", quiet=True, without_gossip=True, without_mingle=True).start()
