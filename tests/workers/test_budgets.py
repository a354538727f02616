"""Accounts' budgets, shared by all workers through a real Redis."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest

from ops.embedded.redis import Redis
from shared.budgets import Budgets
from shared.errors import StoreAway
from shared.providers.account import AccountSettings, Budget
from shared.providers.interface import Limit


pytestmark = pytest.mark.anyio

LIMIT = Limit("GET /v1/customers/{id}", calls=5, seconds=1.0, penalty_seconds=60.0)


@pytest.fixture
async def budgets(redis: Redis) -> AsyncIterator[Budgets]:
    """Budgets as one worker process sees them."""
    made = Budgets(redis.url)
    yield made
    await made.close()


def account(budget: Budget | None = None) -> AccountSettings:
    """An account that no other test uses."""
    return AccountSettings(name=f"a{uuid.uuid4().hex}", base_url="https://api.example.com", budget=budget)


async def test_no_more_calls_than_the_limit_within_its_time_whoever_asks(budgets: Budgets, redis: Redis) -> None:
    """Two processes together get five; the sixth is told how long to wait."""
    other, mine = Budgets(redis.url), account()

    answers = [await each.take("p", mine, LIMIT, "GET customer") for each in (budgets, other) * 3]

    await other.close()
    assert 5 == answers.count(None)
    (wait,) = [answer for answer in answers if answer]
    assert 0 < wait.seconds <= 1.2
    assert f"budget of {mine.name}, GET customer, 5/s" == wait.why


async def test_a_wait_that_is_kept_ends_in_a_free_place(budgets: Budgets) -> None:
    """The time told is neither too short nor much too long; in no second are there more calls than allowed."""
    mine, taken = account(), []
    for _ in range(12):
        if wait := await budgets.take("p", mine, LIMIT, ""):
            await asyncio.sleep(wait.seconds)  # the time that was told is what is tested
            assert await budgets.take("p", mine, LIMIT, "") is None
        taken.append(time.monotonic())

    assert all(later - earlier >= 1.0 for earlier, later in zip(taken, taken[5:], strict=False))
    assert taken[-1] - taken[0] < 4


async def test_accounts_and_scopes_do_not_share(budgets: Budgets) -> None:
    """One studio's storm leaves the other's budget alone, one endpoint's the other's."""
    mine, other = account(), account()
    for _ in range(5):
        await budgets.take("p", mine, LIMIT, "")

    assert await budgets.take("p", mine, LIMIT, "") is not None
    assert await budgets.take("p", other, LIMIT, "") is None
    assert await budgets.take("p", mine, LIMIT._replace(scope="GET /v1/devices"), "") is None


async def test_settings_override_the_published_limit(budgets: Budgets) -> None:
    """A budget of 0 calls lifts it; a smaller one holds."""
    lifted, small = account(Budget(calls=0)), account(Budget(calls=1, seconds=60))

    assert {None} == {await budgets.take("p", lifted, LIMIT, "") for _ in range(50)}
    assert await budgets.take("p", small, LIMIT, "") is None
    assert await budgets.take("p", small, LIMIT, "") is not None


async def test_a_429_stops_its_scope_for_everybody(budgets: Budgets) -> None:
    """Until the pause is over no call of that scope is let through."""
    mine = account()
    await budgets.pause("p", mine, LIMIT, 30)

    wait = await budgets.take("p", mine, LIMIT, "")

    assert wait is not None
    assert 29 <= wait.seconds <= 30
    assert await budgets.take("p", mine, LIMIT._replace(scope="other"), "") is None


async def test_refused_credentials_stop_the_account_until_they_are_mended(budgets: Budgets) -> None:
    """The circuit belongs to the credentials: a mended account goes on at once."""
    mine = account()
    await budgets.open_circuit("p", mine, "the API answered 401; check the account's key", 300)

    wait = await budgets.take("p", mine, LIMIT, "")
    state = await budgets.state("p", mine)

    assert wait is not None
    assert (True, "the API answered 401; check the account's key") == (wait.account_refused, wait.why)
    assert "open" == state.circuit
    mended = mine.model_copy(update={"base_url": "https://new.example.com"})
    assert await budgets.take("p", mended, LIMIT, "") is None


async def test_the_state_for_people_tells_the_fullest_budget(budgets: Budgets) -> None:
    """Used and allowed, of the scope that is nearest to its end."""
    mine = account()
    for _ in range(4):
        await budgets.take("p", mine, LIMIT, "")
    await budgets.take("p", mine, LIMIT._replace(scope="other"), "")

    state = await budgets.state("p", mine)

    assert (4, 5, "closed", 0.0) == (state.used, state.limit, state.circuit, state.next_call_seconds)


async def test_a_redis_that_is_away_is_named_without_its_password() -> None:
    """The sentence says which URL was tried."""
    away = Budgets("redis://:secret@127.0.0.1:1/0")

    with pytest.raises(StoreAway, match=r"redis://@127\.0\.0\.1:1/0") as raised:
        await away.take("p", account(), LIMIT, "")

    await away.close()
    assert "secret" not in str(raised.value)
