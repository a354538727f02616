"""A look at the registrations takes its places in the account's budget, against the lab's real API."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis as redis_client
from pydantic import SecretStr

from ops.embedded.redis import Redis
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from shared.budgets import Budgets
from shared.configuration import read_configuration
from shared.errors import PenstockError
from shared.providers.account import Budget
from shared.providers.paybook.settings import PaybookAccount
from workers.relay.registering import look


pytestmark = pytest.mark.anyio

NOWHERE = Path("/nowhere/penstock.toml")
"""Settings as they are without a file."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The provider lab, its limit lifted: what bounds the calls is ours."""
    with running_lab(seed=43) as lab:
        lab.set_limits({"paybook": Limit(calls=0, seconds=1)})
        yield lab


@pytest.fixture
def account(lab: Lab) -> PaybookAccount:
    """The lab's Paybook account, with one call a minute."""
    keys = next(each for each in lab.accounts() if each.provider == "paybook")
    return PaybookAccount(
        name="main",
        base_url=keys.base_url,
        webhook_tokens=(SecretStr(keys.webhook_key),),
        api_key=SecretStr(keys.api_key),
        budget=Budget(calls=1, seconds=60),
    )


@pytest.fixture
async def budgets(redis: Redis) -> AsyncIterator[Budgets]:
    """Budgets that no test before has used."""
    budgets = Budgets(redis.url)
    yield budgets
    await budgets.close()
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushdb()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A store of this test's own."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_look_is_counted_and_without_a_place_nothing_is_asked(
    lab: Lab, account: PaybookAccount, budgets: Budgets, connection: asyncpg.Connection
) -> None:
    """Paybook counts it as it counts any call; who looks does not wait a minute for it."""
    await look(connection, account, budgets, read_configuration(NOWHERE))
    used = (await budgets.state("paybook", account)).used

    with pytest.raises(PenstockError, match=r"no call of account main may be made now: .*registrations, 1/min"):
        await look(connection, account, budgets, read_configuration(NOWHERE))

    assert (1, 1) == (used, lab.calls("paybook", "/v1/webhooks")["total"])


async def test_nothing_is_asked_while_the_circuit_is_open(
    lab: Lab, account: PaybookAccount, budgets: Budgets, connection: asyncpg.Connection
) -> None:
    """Its probe is the look-out's."""
    await budgets.circuits.open("paybook", account, "refused", "check the API key of main", 60)

    with pytest.raises(PenstockError, match="check the API key of main"):
        await look(connection, account, budgets, read_configuration(NOWHERE))

    assert 0 == lab.calls("paybook")["total"]
