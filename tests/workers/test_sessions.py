"""Calls that need a session, against the lab's real API."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.lab.faults import Fault
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from shared.configuration import Configuration, read_configuration
from shared.providers.interface import Call
from shared.providers.paybook import PROVIDER
from shared.providers.paybook.settings import PaybookAccount
from workers.calling import Caller
from workers.follow_up.sessions import Sessions


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
async def sessions() -> AsyncIterator[Sessions]:
    """Sessions of one worker process."""
    caller = Caller()
    yield Sessions(caller)
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


async def test_a_refused_session_is_the_answer(
    lab: Lab, account: PaybookAccount, configuration: Configuration, sessions: Sessions
) -> None:
    """What the API said to the POST is judged as if it had been said to the call."""
    lab.set_faults(Fault(kind="status", path="/v1/sessions", status=503))

    answer = await sessions.get("paybook", account, CALL, PROVIDER.follow_up, configuration)

    assert 503 == answer.status
