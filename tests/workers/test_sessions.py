"""Calls that need a session, against the lab's real API."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis as redis_client
from pydantic import SecretStr

from ops.embedded.redis import Redis
from ops.lab.faults import Fault
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from shared.budgets import Budgets
from shared.configuration import Configuration, read_configuration
from shared.providers.account import Budget
from shared.providers.interface import Call
from shared.providers.paybook import PROVIDER
from shared.providers.paybook.api import LIMIT
from shared.providers.paybook.settings import PaybookAccount
from workers.calling import Caller
from workers.follow_up.sessions import NotNow, Sessions


pytestmark = pytest.mark.anyio

CALL = Call("/v1/credentials/5e793889ea4c5165d46f9811", "credential", {"id_user": "5e751d54d0510472295413b3"})


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The provider lab, its limit lifted."""
    with running_lab(seed=5) as lab:
        lab.set_limits({"paybook": Limit(calls=0, seconds=1)})
        yield lab


@pytest.fixture
def account(lab: Lab) -> PaybookAccount:
    """The lab's Paybook account, which reads within sessions."""
    keys = next(each for each in lab.accounts() if each.provider == "paybook")
    return PaybookAccount(
        name="main",
        base_url=keys.base_url,
        webhook_tokens=(SecretStr(keys.webhook_key),),
        api_key=SecretStr(keys.api_key),
        auth="session",
    )


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """The defaults."""
    return read_configuration(tmp_path / "penstock.toml")


@pytest.fixture
async def budgets(redis: Redis) -> AsyncIterator[Budgets]:
    """Budgets that no test before has used."""
    budgets = Budgets(redis.url)
    yield budgets
    await budgets.close()
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushdb()


@pytest.fixture
async def sessions(budgets: Budgets) -> AsyncIterator[Sessions]:
    """Sessions of one worker process."""
    caller = Caller()
    yield Sessions(caller, budgets)
    await caller.close()


def opened(lab: Lab) -> int:
    """How many sessions the API has opened."""
    return int(lab.calls("paybook", "/v1/sessions")["total"])


async def test_calls_share_a_session(
    lab: Lab, account: PaybookAccount, configuration: Configuration, sessions: Sessions
) -> None:
    """The first call opens it, the others go on in it."""
    statuses = [
        (await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)).status for _ in range(3)
    ]

    assert [200, 200, 200] == statuses
    assert 1 == opened(lab)


async def test_a_session_that_ended_is_opened_anew_once(
    lab: Lab, account: PaybookAccount, configuration: Configuration, sessions: Sessions
) -> None:
    """A 401 within a session means that it is over; one within a new session is the account's."""
    await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)
    lab.set_faults(Fault(kind="status", path="/v1/credentials", status=401, times=1))

    again = await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)
    lab.set_faults(Fault(kind="status", path="/v1/credentials", status=401))
    refused = await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)

    assert (200, 401) == (again.status, refused.status)
    assert 3 == opened(lab)


async def test_a_log_in_takes_a_place_in_the_budget_and_waits_for_one(
    lab: Lab, account: PaybookAccount, configuration: Configuration, budgets: Budgets, sessions: Sessions
) -> None:
    """Paybook counts it as it counts any call: without a place nothing is sent, and the wait is told."""
    own = account.model_copy(update={"budget": Budget(calls=2, seconds=60)})
    await sessions.get("paybook", own, CALL, PROVIDER.follow_up, configuration)
    await sessions.get("paybook", own, CALL, PROVIDER.follow_up, configuration)
    assert (1, 1) == (opened(lab), (await budgets.state("paybook", own)).used)
    assert await budgets.take("paybook", own, LIMIT, "GET credential") is None
    other = Call(CALL.path, CALL.purpose, {"id_user": "5e751d54d0510472295413b4"})

    with pytest.raises(NotNow) as raised:
        await sessions.get("paybook", own, other, PROVIDER.follow_up, configuration)

    assert "budget of main, POST session, 2/min" == raised.value.wait.why
    assert (1, True) == (opened(lab), raised.value.wait.seconds > 30)


async def test_no_session_is_opened_through_an_open_circuit_but_for_a_probe(
    lab: Lab, account: PaybookAccount, configuration: Configuration, budgets: Budgets, sessions: Sessions
) -> None:
    """The circuit may have opened while the call waited for its turn."""
    await budgets.circuits.open("paybook", account, "down", "it answered 503", 60)

    with pytest.raises(NotNow, match="it answered 503"):
        await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)
    assert 0 == opened(lab)
    probed = await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration, probing=True)

    assert (200, 1) == (probed.status, opened(lab))


async def test_a_budget_that_cannot_be_asked_is_waited_for(
    account: PaybookAccount, configuration: Configuration
) -> None:
    """Redis away: no session is opened uncounted, and no attempt is used up."""
    away, caller = Budgets("redis://127.0.0.1:1/0"), Caller()

    with pytest.raises(NotNow, match="the budget cannot be asked") as raised:
        await Sessions(caller, away).get("paybook", account, CALL, PROVIDER.follow_up, configuration)

    assert (False, True) == (raised.value.wait.circuit, raised.value.wait.seconds > 0)
    await caller.close()
    await away.close()


async def test_a_refused_session_is_the_answer(
    lab: Lab, account: PaybookAccount, configuration: Configuration, sessions: Sessions
) -> None:
    """What the API said to the POST is judged as if it had been said to the call."""
    lab.set_faults(Fault(kind="status", path="/v1/sessions", status=503))

    answer = await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)

    assert 503 == answer.status


@pytest.mark.parametrize("changed", ["api_key", "base_url"])
async def test_new_credentials_or_another_host_get_a_session_of_their_own(
    lab: Lab, account: PaybookAccount, configuration: Configuration, sessions: Sessions, changed: str
) -> None:
    """A token is not sent to a host that did not give it, nor used for a key that did not open it."""
    await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)
    other = {
        "api_key": SecretStr("another key"),
        "base_url": account.base_url.replace("127.0.0.1", "localhost"),
    }[changed]

    await sessions.get("paybook", account.model_copy(update={changed: other}), CALL, PROVIDER.follow_up, configuration)
    assert 2 == lab.calls("paybook", "/v1/sessions")["total"]

    back = await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)

    assert 200 == back.status
    assert 2 == lab.calls("paybook", "/v1/sessions")["total"]
