"""Says in the log what deliveries have taught about accounts, once each: which form of signature Authenteq uses."""

import asyncio
from typing import Final

import structlog

from ingress.routes import Routes


LOOK_SECONDS: Final = 5.0


async def tell(routes: Routes) -> None:
    """Look every few seconds until cancelled."""
    told: dict[tuple[str, str], str] = {}
    log = structlog.get_logger("penstock.ingress")
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for provider, account, learned in routes.learned():
            if told.get((provider, account)) != learned:
                told[provider, account] = learned
                log.info("learned from a delivery", provider=provider, account=account, learned=learned)
