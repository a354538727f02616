"""A worker with the pool's children; its one task writes down what the child's collector leaves alone, and ends it.

``frozen_children.py REDIS_URL FILE``
"""

import gc
import os
import signal
import sys
from pathlib import Path

from celery import Celery


app = Celery("frozen", broker=sys.argv[1], set_as_current=False)
app.conf.update(
    worker_pool="workers.pool:TaskPool",
    task_ignore_result=True,
    task_acks_late=False,
    worker_proc_alive_timeout=240.0,
)


@app.task(name="look")
def look() -> None:
    """How many objects were there before the fork, as the collector of this process knows."""
    Path(sys.argv[2]).write_text(str(gc.get_freeze_count()), encoding="ascii")
    os.kill(os.getppid(), signal.SIGTERM)


if __name__ == "__main__":
    look.apply_async()
    app.Worker(concurrency=1, loglevel="ERROR", quiet=True, without_gossip=True, without_mingle=True).start()
