"""Accounts' budgets, shared by all workers through a real Redis."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis as AsyncRedis

from ops.embedded.redis import Redis
from shared.budgets import Budgets
from shared.errors import StoreAway
from shared.providers.account import AccountSettings, Budget
from shared.providers.interface import Limit


pytestmark = pytest.mark.anyio

LIMIT = Limit("GET /v1/customers/{id}", calls=5, seconds=60.0, penalty_seconds=60.0)
"""Of a minute: what a test asks fits into it on any machine."""
A_SECOND = LIMIT._replace(seconds=1.0)


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
    assert 0 < wait.seconds <= 60.7
    assert f"budget of {mine.name}, GET customer, 5/min" == wait.why


async def test_a_wait_that_is_kept_ends_in_a_free_place(budgets: Budgets) -> None:
    """The time told is neither too short nor much too long; in no second are there more calls than allowed."""
    mine, told = account(), 0.0
    taken: list[tuple[float, float]] = []
    for _ in range(12):
        began = time.monotonic()
        if wait := await budgets.take("p", mine, A_SECOND, ""):
            told += wait.seconds
            await asyncio.sleep(wait.seconds)  # the time that was told is what is tested
            began = time.monotonic()
            assert await budgets.take("p", mine, A_SECOND, "") is None
        taken.append((began, time.monotonic()))

    # Between five calls: from when the first was asked for to when the sixth was answered.
    assert all(later[1] - earlier[0] >= 1.0 for earlier, later in zip(taken, taken[5:], strict=False))
    assert told < 4


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
    """Until the pause is over no call of that scope is let through; a shorter pause does not end a longer one."""
    mine = account()
    await budgets.pause("p", mine, LIMIT, 3000)
    await budgets.pause("p", mine, LIMIT, 1)

    wait = await budgets.take("p", mine, LIMIT, "GET customer")

    assert wait is not None
    assert 2700 <= wait.seconds <= 3000.1
    assert f"budget of {mine.name}, GET customer, 5/min, empty since the API answered 429" == wait.why
    assert await budgets.take("p", mine, LIMIT._replace(scope="other"), "") is None


async def test_who_waits_stands_in_line_and_does_not_wake_with_all_the_others(budgets: Budgets) -> None:
    """100 who find the budget empty are told turns at the budget's own pace, one after the other."""
    mine = account()
    for _ in range(5):
        await budgets.take("p", mine, LIMIT, "")

    waits = [await budgets.take("p", mine, LIMIT, "") for _ in range(100)]

    turns = [wait.seconds for wait in waits if wait]
    assert 100 == len(turns)
    assert sorted(turns) == turns
    assert 99 * 12 - 60 < turns[-1] - turns[0] < 99 * 12.5, "five a minute, less the time that asking takes"


async def test_turns_told_while_the_budget_is_empty_begin_after_that(budgets: Budgets) -> None:
    """After a 429 the line forms behind the end of the pause."""
    mine = account()
    await budgets.pause("p", mine, LIMIT, 3000)

    waits = [await budgets.take("p", mine, LIMIT, "") for _ in range(10)]

    assert all(wait is not None and wait.seconds >= 2700 for wait in waits)
    assert 10 == len({wait.seconds for wait in waits if wait})


async def test_a_fixed_window_begins_with_its_first_call_and_gives_all_back_at_once(budgets: Budgets) -> None:
    """As a provider counts that begins anew: calls near the end of a window do not count in the next."""
    mine, fixed = account(), LIMIT._replace(window="fixed", seconds=4.0)
    assert await budgets.take("p", mine, fixed, "") is None
    await asyncio.sleep(1)
    rest = [await budgets.take("p", mine, fixed, "") for _ in range(5)]
    wait = rest[-1]
    assert wait is not None
    assert 0 < wait.seconds < 3.2
    await asyncio.sleep(wait.seconds + 0.05)  # the window's end is what is tested

    again = [await budgets.take("p", mine, fixed, "") for _ in range(5)]

    assert [None] * 4 == rest[:4]
    assert [None] * 5 == again


async def test_the_settings_may_change_from_one_kind_of_window_to_the_other(budgets: Budgets) -> None:
    """Neither finds what the other kept."""
    mine = account()

    kinds = [LIMIT, LIMIT._replace(window="fixed")] * 2

    assert [None] * 4 == [await budgets.take("p", mine, kind, "") for kind in kinds]


async def test_background_calls_leave_the_reserved_share_to_live_ones(budgets: Budgets) -> None:
    """Replays get half; a live call always finds room beside them, and its turn is told in a line of its own."""
    mine, ten = account(), LIMIT._replace(calls=10)
    replays = [await budgets.take("p", mine, ten, "", background=True) for _ in range(50)]

    live = [await budgets.take("p", mine, ten, "") for _ in range(5)]

    assert 5 == replays.count(None)
    assert [None] * 5 == live
    wait = await budgets.take("p", mine, ten, "")
    last = replays[-1]
    assert wait is not None
    assert last is not None
    assert wait.seconds < 62 < last.seconds


async def test_what_was_read_in_this_window_leaves_room_for_what_was_not(budgets: Budgets) -> None:
    """In a storm about few customers the calls for others still go out, and each of the few is read less often."""
    mine, ten = account(), LIMIT._replace(calls=10)

    again = [await budgets.take("p", mine, ten, "", resource="/v1/customers/1") for _ in range(20)]
    others = [await budgets.take("p", mine, ten, "", resource=f"/v1/customers/{n}") for n in range(2, 10)]

    assert 6 == again.count(None)
    assert 4 == others.count(None)


async def test_an_open_circuit_stops_the_account_until_its_key_is_mended(budgets: Budgets) -> None:
    """It belongs to the credentials: a mended account goes on at once. A probe may go through."""
    mine = account()
    await budgets.circuits.open("p", mine, "refused", "check the API key of studio-berlin: 401", 300)

    wait = await budgets.take("p", mine, LIMIT, "")
    state = await budgets.state("p", mine)

    assert wait is not None
    assert (True, "check the API key of studio-berlin: 401") == (wait.circuit, wait.why)
    assert "open" == state.circuit
    assert 270 <= state.next_call_seconds <= 300
    assert await budgets.take("p", mine, LIMIT, "", probing=True) is None
    mended = mine.model_copy(update={"base_url": "https://new.example.com"})
    assert await budgets.take("p", mended, LIMIT, "") is None


@pytest.mark.parametrize(
    ("calls", "free_after"),
    [(5, 0.0), (6, 12.0), (5 + 60 * 5, 3600.0)],
)
async def test_a_forecast_is_what_is_free_now_and_then_the_pace(
    budgets: Budgets, calls: int, free_after: float
) -> None:
    """Five at once, the others at five a minute; a pause comes first."""
    mine = account()

    assert (pytest.approx(free_after), 0.0) == await budgets.free_in("p", mine, LIMIT, calls)
    await budgets.pause("p", mine, LIMIT, 3000)
    assert pytest.approx(3000 + free_after, abs=300) == (await budgets.free_in("p", mine, LIMIT, calls))[0]


async def test_the_state_for_people_tells_the_fullest_budget(budgets: Budgets) -> None:
    """Used and allowed, of the scope that is nearest to its end."""
    mine = account()
    for _ in range(4):
        await budgets.take("p", mine, LIMIT, "")
    await budgets.take("p", mine, LIMIT._replace(scope="other"), "")

    state = await budgets.state("p", mine)

    assert (4, 5, "closed", 0.0) == (state.used, state.limit, state.circuit, state.next_call_seconds)


@pytest.mark.parametrize("window", ["sliding", "fixed"])
async def test_a_budget_that_is_used_up_says_when_a_call_may_be_made_again(budgets: Budgets, window: str) -> None:
    """When its first call leaves the window, and when a fixed window ends."""
    mine, limit = account(), Limit("other", 3, 60.0, 60.0, window)  # type: ignore[arg-type]
    for _ in range(3):
        assert (await budgets.state("p", mine)).next_call_seconds == 0
        await budgets.take("p", mine, limit, "")
    wait = await budgets.take("p", mine, limit, "")

    state = await budgets.state("p", mine)

    assert wait is not None
    assert wait.seconds - 30 < state.next_call_seconds <= wait.seconds


async def test_a_redis_that_is_away_is_named_without_its_password() -> None:
    """The sentence says which URL was tried."""
    away = Budgets("redis://:secret@127.0.0.1:1/0")

    with pytest.raises(StoreAway, match=r"redis://@127\.0\.0\.1:1/0") as raised:
        await away.take("p", account(), LIMIT, "")

    await away.close()
    assert "secret" not in str(raised.value)


async def test_questions_asked_together_are_answered_one_by_one(budgets: Budgets) -> None:
    """More of them than go into one script call, of two accounts: each gets its own five places and no other's."""
    accounts = [account(), account()]

    answers = await asyncio.gather(*(budgets.take("p", accounts[n % 2], LIMIT, "") for n in range(250)))

    assert [5, 5] == [answers[first::2].count(None) for first in (0, 1)]
    for each, first in zip(accounts, (0, 1), strict=True):
        waits = [wait for wait in answers[first::2] if wait]
        assert all(each.name in wait.why for wait in waits)
        assert len(waits) == len({round(wait.seconds, 3) for wait in waits})


async def test_questions_asked_together_go_out_together(budgets: Budgets, redis: Redis) -> None:
    """Fifty questions are one script call; without a limit they are one question."""
    mine, client = account(), AsyncRedis.from_url(redis.url)
    many = Limit("GET", calls=1000, seconds=60.0, penalty_seconds=0.0)
    await budgets.take("p", mine, many, "")

    async with client.monitor() as monitor:
        await asyncio.gather(*(budgets.take("p", mine, limit, "") for limit in [many] * 50 + [None] * 50))
        await client.set(f"end:{mine.name}", "")
        said = []
        while f"end:{mine.name}" not in (line := (await monitor.next_command())["command"]):
            said.append(line)

    await client.aclose()
    scripts = [line for line in said if line.startswith("EVALSHA") and f":{mine.name}:" in line]
    assert 1 == len(scripts)
    assert 51 == scripts[0].count(f"penstock:circuit:p:{mine.name}:")


async def test_an_asker_who_gives_up_leaves_the_others_their_answers(budgets: Budgets) -> None:
    """A task that is cancelled while the question is under way."""
    mine = account()
    asking = [asyncio.create_task(budgets.take("p", mine, None, "")) for _ in range(3)]
    asking += [asyncio.create_task(budgets.take("p", mine, LIMIT, "")) for _ in range(3)]
    await asyncio.sleep(0)  # they have asked, and nothing is sent yet

    for given_up in asking[::3]:
        given_up.cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert [True, False, False] * 2 == [isinstance(answer, asyncio.CancelledError) for answer in answers]
    assert {None} == {answer for answer in answers if not isinstance(answer, asyncio.CancelledError)}


async def test_a_question_that_fails_does_not_fail_its_neighbours(budgets: Budgets, redis: Redis) -> None:
    """A value of the wrong kind under one account's name is that account's trouble."""
    broken, mine, client = account(), account(), AsyncRedis.from_url(redis.url)
    await client.set(f"penstock:budget:p:{broken.name}:{LIMIT.scope}", "no log of calls")
    await client.aclose()

    answers = await asyncio.gather(
        *(budgets.take("p", each, LIMIT, "") for each in (mine, broken, mine)), return_exceptions=True
    )

    assert [None, None] == answers[::2]
    assert isinstance(answers[1], StoreAway)
    assert "WRONGTYPE" in str(answers[1])
