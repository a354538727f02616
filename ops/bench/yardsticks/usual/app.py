"""Yardstick ``usual``: FastAPI, an SQLAlchemy insert per request, ``task.delay(id)``, as such receivers are written."""

import os
import secrets
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy.orm import Session

from ops.bench.yardsticks.usual.models import Delivery, SessionLocal
from ops.bench.yardsticks.usual.tasks import follow_up


KEY = os.environ["YARDSTICK_KEY"]

app = FastAPI()


def open_session() -> Iterator[Session]:
    """A session for the time of a request."""
    with SessionLocal() as session:
        yield session


@app.post("/webhooks/imin", status_code=204)
def receive(
    body: dict[str, Any], x_api_key: Annotated[str, Header()], session: Annotated[Session, Depends(open_session)]
) -> None:
    """A delivery."""
    if not secrets.compare_digest(x_api_key.encode(), KEY.encode()):
        raise HTTPException(401)
    delivery = Delivery(body=body)
    session.add(delivery)
    session.commit()
    follow_up.delay(delivery.id)
