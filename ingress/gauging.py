"""Looks into the spool every few seconds, so that the metrics tell how much waits there and what is set aside."""

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from ingress.keeping import Keeping
from shared.errors import StoreAway


if TYPE_CHECKING:
    from ingress.metrics import IngressMetrics

LOOK_SECONDS: Final = 5.0


async def gauge(keeping: Keeping, metrics: "IngressMetrics") -> None:
    """Look every few seconds until cancelled; while Redis does not answer, what it held last is shown."""
    log = structlog.get_logger("penstock.ingress")
    while True:
        if "redis" not in keeping.away():
            try:
                metrics.spooled(*await keeping.spool_lengths())
            except StoreAway as error:
                log.debug("the spool cannot be looked into", reason=str(error))
        await asyncio.sleep(LOOK_SECONDS)
