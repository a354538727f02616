"""The Celery task of the workers that hand over."""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown

from shared.queue import HAND_OVER_TASK, HANDLERS_QUEUE
from workers.hand_over.delivering import HandingOver
from workers.health.outcomes import Outcomes
from workers.process import WorkerProcess


def register(app: Celery, process: Callable[[], WorkerProcess]) -> None:
    """Add the task to a worker's application; ``process`` is what the process that runs it has."""
    here: dict[str, HandingOver] = {}
    outcomes = Outcomes()

    @app.task(name=HAND_OVER_TASK, queue=HANDLERS_QUEUE)
    def hand_over(name: str) -> str:
        if "handing_over" not in here:
            here["handing_over"] = HandingOver(process())
        return outcomes.watch(process(), lambda: here["handing_over"].run(name))

    @worker_process_shutdown.connect(weak=False)
    def stop(**_: Any) -> None:
        if handing_over := here.pop("handing_over", None):
            handing_over.close()
