"""The follow-up of the usual receiver: a Celery task per delivery, synchronous HTTP, one transaction each."""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx
from celery import Celery
from celery.signals import worker_process_init

from ops.bench.yardsticks.usual.models import CustomerAccount, Delivery, SessionLocal, engine


app = Celery("usual", broker=os.environ["YARDSTICK_REDIS_URL"])
app.conf.task_ignore_result = True


@cache
def client() -> httpx.Client:
    """One client a process, so that connections are used again."""
    return httpx.Client(headers={"X-API-KEY": os.environ["YARDSTICK_API_KEY"]}, timeout=10, trust_env=False)


@worker_process_init.connect
def forget_connections(**_: Any) -> None:
    """A connection must not be shared by two processes after the fork."""
    engine.dispose(close=False)


@app.task(bind=True, max_retries=5, acks_late=True)
def follow_up(self: Any, delivery_id: int) -> None:
    """Read the customer account again and store it."""
    with SessionLocal() as session:
        delivery = session.get_one(Delivery, delivery_id)
        try:
            answer = client().get(delivery.body["@id"]).raise_for_status()
        except httpx.HTTPError as error:
            raise self.retry(exc=error, countdown=5) from error
        account = answer.json()
        session.merge(CustomerAccount(identifier=account["identifier"], data=account))
        delivery.status = "done"
        delivery.finished_at = datetime.now(UTC)
        session.commit()
