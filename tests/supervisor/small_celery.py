"""A Celery application of two queues, for the test of flower: ``small_celery.py flower|worker``."""

import os
import sys

from celery import Celery
from kombu import Queue

from ops.flower import serve_flower
from shared.settings import Settings


app = Celery("small", broker=os.environ["PENSTOCK_REDIS_URL"], set_as_current=False)
app.conf.update(
    task_queues=[Queue("penstock.imin"), Queue("penstock.paybook")],
    task_default_queue="penstock.imin",
    task_ignore_result=True,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 900},
)


@app.task(name="imin.plan", queue="penstock.imin")
def plan(ids: list[str]) -> str:
    """Say what a task of Penstock would say."""
    return f"{len(ids)} events planned"


if __name__ == "__main__":
    if sys.argv[1] == "flower":
        serve_flower(app, Settings.read())
    else:
        app.worker_main(["worker", "--pool=prefork", "--concurrency=1", "--queues=penstock.imin", "--loglevel=ERROR"])
