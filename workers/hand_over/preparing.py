"""What comes before the first hand-over: importing the applications' functions, and writing down new handlers."""

import asyncio
import time

import structlog

from penstock.handlers import registered
from penstock.loading import load
from shared.configuration import read_configuration
from shared.errors import StoreAway
from shared.handlers.names import clashes
from shared.settings import Settings
from shared.store.handovers.handlers import NewHandler, register
from shared.store.postgres import AWAY, connect_once


log = structlog.get_logger("penstock.handlers")

RETRY_SECONDS = 1.0


def prepare(settings: Settings) -> None:
    """Import every handler, and note where in the feed new ones begin; waits for Postgres.

    Done after the migrations, before anything comes in, and by workers before their children are forked. A module that
    cannot be imported is left out and told of: the others' changes are handed over, its own wait.
    """
    for entry, reason in load().items():
        log.error("handlers could not be imported; their changes wait", entry_point=entry, reason=reason)
    by_http = read_configuration(settings.config).handlers
    for reason in clashes(by_http, registered()).values():
        log.error("two handlers have one name", reason=reason)
    new = [NewHandler(handler.name, handler.start == "beginning") for handler in by_http]
    new += [NewHandler(handler.name, handler.start == "beginning") for handler in registered().values()]
    if not new or settings.database_url is None:
        return
    log.info("handlers are registered", handlers=[handler.name for handler in new])
    url = settings.database_url.get_secret_value()
    while True:
        try:
            asyncio.run(_register(url, new))
        except (StoreAway, *AWAY) as error:
            log.warning("waiting for Postgres", reason=str(error))
            time.sleep(RETRY_SECONDS)
        else:
            return


async def _register(url: str, new: list[NewHandler]) -> None:
    connection = await connect_once(url)
    try:
        await register(connection, new)
    finally:
        connection.terminate()
