"""A worker that is asked to end just when its child has been handed a task and has not yet said so.

``stopped_child.py REDIS_URL FILE``: the child stands still meanwhile, and the task writes into the file.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from billiard.pool import RUN
from celery import Celery
from celery.signals import worker_ready


app = Celery("stopped", broker=sys.argv[1], set_as_current=False)
app.conf.update(
    worker_pool="workers.pool:TaskPool",
    task_ignore_result=True,
    task_acks_late=True,
    worker_proc_alive_timeout=240.0,  # one that stands still while it starts is not to be killed for it after 4 s
)
done = Path(sys.argv[2])


@app.task(name="work")
def work() -> None:
    """Say that it was done."""
    with done.open("a", encoding="ascii") as file:
        file.write("done\n")


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def _end(children: Any) -> None:
    (child,) = children._pool
    os.kill(child.pid, signal.SIGSTOP)
    work.delay()
    _until(lambda: any(job._write_to for job in tuple(children._cache.values())))
    os.kill(os.getpid(), signal.SIGTERM)
    _until(lambda: children._state != RUN)
    os.kill(child.pid, signal.SIGCONT)


@worker_ready.connect
def end(sender: Any, **_: object) -> None:
    """Do so beside the worker, which goes on."""
    threading.Thread(target=_end, args=(sender.pool._pool,), daemon=True).start()


if __name__ == "__main__":
    app.Worker(concurrency=1, loglevel="ERROR", quiet=True, without_gossip=True, without_mingle=True).start()
