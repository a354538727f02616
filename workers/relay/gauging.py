"""Asks the stores every few seconds what the relay's metrics show; while one is away its figures stay as they were."""

import contextlib
from types import TracebackType
from typing import ClassVar, Final, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.budgets import Budgets
from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.providers.registry import PROVIDERS
from shared.queue import HANDLERS, HANDLERS_QUEUE, queue_of
from shared.redis_clients import open_redis
from shared.store import gauging, stuck
from shared.store.postgres import Connection
from shared.store.tallying import progress
from shared.watching import ConfigurationWatch
from workers.relay.metrics import MOST_ACCOUNTS, RelayMetrics


REDIS_SECONDS: Final = 2.0
MOST_PARKED: Final = 10_000


class Gauging:
    """Both looks; ``async with`` closes what they ask Redis by."""

    LOOK_SECONDS: ClassVar[float] = 10.0

    def __init__(self, redis_url: str, watch: ConfigurationWatch, metrics: RelayMetrics) -> None:
        self._redis = open_redis(redis_url, seconds=REDIS_SECONDS, retries=0)
        self._budgets = Budgets(redis_url)
        self._watch = watch
        self._metrics = metrics

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()
            await self._budgets.close()

    async def ask_postgres(self, connection: Connection) -> None:
        """What Postgres knows; and whether the settings in force are those of the file."""
        self._metrics.settings(self._watch)
        await _ask_postgres(connection, self._watch, self._metrics)

    async def ask_redis(self) -> None:
        """What Redis knows. Raises StoreAway."""
        try:
            await _ask_redis(self._redis, self._budgets, self._watch, self._metrics)
        except (RedisError, OSError) as error:
            raise StoreAway(f"Redis does not answer: {error}") from None


async def _ask_postgres(connection: Connection, watch: ConfigurationWatch, metrics: RelayMetrics) -> None:
    configuration = watch.current
    metrics.backlog(await progress(connection, [*PROVIDERS]))
    metrics.unplanned(await stuck.unplanned(connection, [*PROVIDERS]))
    processes = await gauging.worker_processes(connection, configuration.timing.lease_seconds)
    # A process is named `worker-imin-paybook-4711`, after all whose events it follows up.
    followed = [set(process.name.split("-")[1:-1]) for process in processes]
    handlers = await gauging.handler_backlogs(connection, MOST_PARKED)
    metrics.handlers(handlers)
    wanted = [provider for provider, accounts in configuration.accounts.items() if accounts]
    if handlers:
        wanted.append(HANDLERS)
    metrics.workers({provider: sum(provider in each for each in followed) for provider in wanted})
    failing = [(names, process.failing_seconds) for names, process in zip(followed, processes, strict=True)]
    metrics.failing(
        {provider: max((each for names, each in failing if provider in names), default=0.0) for provider in wanted}
    )
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
