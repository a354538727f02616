"""Asks the stores every few seconds what the relay's metrics show, on connections of its own."""

import asyncio
import contextlib

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.budgets import Budgets
from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.providers.registry import PROVIDERS
from shared.queue import HANDLERS, HANDLERS_QUEUE, queue_of
from shared.redis_clients import open_redis
from shared.store import gauging
from shared.store.postgres import AWAY, Connection, connect_once
from shared.store.tallying import progress
from shared.watching import ConfigurationWatch
from workers.relay.metrics import MOST_ACCOUNTS, RelayMetrics


log = structlog.get_logger("penstock.relay")

LOOK_SECONDS = 10.0
REDIS_SECONDS = 2.0
MOST_PARKED = 10_000


async def keep_gauges(database_url: str, redis_url: str, watch: ConfigurationWatch, metrics: RelayMetrics) -> None:
    """Until cancelled; while a store is away, its figures stay as they were."""
    redis = open_redis(redis_url, seconds=REDIS_SECONDS, retries=0)
    budgets = Budgets(redis_url)
    try:
        while True:
            metrics.settings(watch)
            try:
                connection = await connect_once(database_url)
                try:
                    await _ask_postgres(connection, watch, metrics)
                finally:
                    connection.terminate()
            except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
                log.debug("Postgres cannot be asked for its figures", reason=str(error) or type(error).__name__)
            try:
                await _ask_redis(redis, budgets, watch, metrics)
            except (StoreAway, RedisError, OSError) as error:
                log.debug("Redis cannot be asked for its figures", reason=str(error) or type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        with contextlib.suppress(RedisError, OSError):
            await redis.aclose()
            await budgets.close()


async def _ask_postgres(connection: Connection, watch: ConfigurationWatch, metrics: RelayMetrics) -> None:
    configuration = watch.current
    metrics.backlog(await progress(connection, [*PROVIDERS]))
    names = await gauging.worker_processes(connection, configuration.timing.lease_seconds)
    # A process is named `worker-imin-paybook-4711`, after all whose events it follows up.
    followed = [set(name.split("-")[1:-1]) for name in names]
    handlers = await gauging.handler_backlogs(connection, MOST_PARKED)
    metrics.handlers(handlers)
    wanted = [provider for provider, accounts in configuration.accounts.items() if accounts]
    if handlers:
        wanted.append(HANDLERS)
    metrics.workers({provider: sum(provider in each for each in followed) for provider in wanted})
    accounts = [(provider, account.name) for provider, account in _accounts(watch)]
    metrics.silent(await gauging.silent_accounts(connection, accounts))


async def _ask_redis(redis: Redis, budgets: Budgets, watch: ConfigurationWatch, metrics: RelayMetrics) -> None:
    queues = [HANDLERS_QUEUE, *map(queue_of, PROVIDERS)]
    pipeline = redis.pipeline(transaction=False)
    for queue in queues:
        pipeline.llen(queue)
    metrics.queues(dict(zip(queues, await pipeline.execute(), strict=True)))
    accounts = _accounts(watch)
    by_name = {(provider, account.name): account for provider, account in accounts}
    opened = set()
    for provider, name in await budgets.circuits.opened():
        account = by_name.get((provider, name))
        if account and (circuit := await budgets.circuits.get(provider, account)):
            opened.add((provider, name, circuit.trouble))
    metrics.circuits(opened)
    for provider, account in accounts:
        state = await budgets.state(provider, account)
        if state.limit:
            metrics.budget(provider, account.name, max(0.0, 1 - state.used / state.limit))


def _accounts(watch: ConfigurationWatch) -> list[tuple[str, AccountSettings]]:
    """The accounts that are shown: the first of each provider, by name."""
    return [
        (provider, accounts[name])
        for provider, accounts in watch.current.accounts.items()
        for name in sorted(accounts)[:MOST_ACCOUNTS]
    ]
