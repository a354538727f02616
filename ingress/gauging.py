"""Looks every few seconds which stores are away and what is in the spool, so that the metrics tell of it."""

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
        away = keeping.away()
        if "redis" not in away:
            try:
                metrics.spooled(*await keeping.spool_lengths())
            except StoreAway as error:
                # Nothing was spooled, so nobody else has noticed.
                away.add("redis")
                log.debug("the spool cannot be looked into", reason=str(error))
        metrics.away(away)
        await asyncio.sleep(LOOK_SECONDS)
