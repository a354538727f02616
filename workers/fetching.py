"""The fetch and apply steps: make calls within the accounts' budgets, store what they say together with their state."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import asyncpg
import structlog

from shared.budgets import Wait
from shared.configuration import Configuration
from shared.errors import BrokenAnswer, RefusedAnswer, StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Answer, FollowUp, Limit, Outcome
from shared.providers.registry import PROVIDERS
from shared.queue import fetch_task
from shared.store import fetching
from shared.store.fetching import ClaimedFetch, Result
from shared.store.postgres import Connection
from workers.backoff import retry_after
from workers.calling import NoAnswer
from workers.process import WorkerProcess
from workers.transactions import again_on_conflict
from workers.turns import Turns
from workers.verdicts import Verdict, again, judge


log = structlog.get_logger("penstock.fetch")

TASK_SECONDS = 30.0
"""After this long a task stops taking more and leaves the rest to its successor, so that no task meets its limit."""

WAIT_HERE_SECONDS = 2.0
"""A shorter wait for the budget is spent holding the fetch; a longer one is written down and left to the relay."""

STORE_RECORDS = 10_000
"""About so many records are stored in one transaction; more pages than that are stored one after the other."""

BUDGET_AWAY_SECONDS = 2.0
SUCCESS = range(200, 300)
INSTEAD = frozenset({403, 404})
SAID_CHARACTERS = 200


async def fetch(process: WorkerProcess, provider: str, ids: Sequence[int], until: float | None = None) -> str:
    """Make the named calls, then others of the provider that are due, batch by batch; says how many were made.

    After ``until`` (of the monotonic clock) it takes no more and leaves the rest to a task of its own.
    """
    until = time.monotonic() + TASK_SECONDS if until is None else until
    made = 0
    turns = Turns()
    while turns.left:

        async def claim(connection: Connection) -> list[ClaimedFetch]:
            named = ids if turns.first else ()
            most = process.watch.current.following_up.concurrent_calls
            return await fetching.claim(connection, provider, named, most, process.id, suspects=turns.suspects)

        async with process.holding(claim) as claimed:
            turns.took(claimed)
            if not claimed:
                continue
            await _make(process, claimed)
        made += len(claimed)
        if time.monotonic() > until:
            await process.wake(provider, fetch_task(provider))
            return f"{made} fetched, more to do"
    return f"{made} fetched"


async def _make(process: WorkerProcess, claimed: Sequence[ClaimedFetch]) -> None:
    """Make all these calls side by side, and store whatever has come in together: a slow one holds nobody up."""
    came_in: asyncio.Queue[Result | None] = asyncio.Queue()

    async def call(fetch: ClaimedFetch) -> None:
        await came_in.put(await _attempt(process, fetch))

    async with asyncio.TaskGroup() as calls:
        for fetch in claimed:
            calls.create_task(call(fetch))
        left = len(claimed)
        while left:
            batch = [await came_in.get()]
            while not came_in.empty() and sum(len(r.outcome.records) for r in batch if r) < STORE_RECORDS:
                batch.append(came_in.get_nowait())
            left -= len(batch)
            await _store(process, [result for result in batch if result is not None])


async def _attempt(process: WorkerProcess, fetch: ClaimedFetch) -> Result | None:
    """One attempt at one fetch, up to what is to be stored of it; None when its claim was lost on the way."""
    configuration = process.watch.current
    account = configuration.account(fetch.provider, fetch.account)
    if account is None or fetch.provider not in PROVIDERS:
        detail = f"the account {fetch.account} is not configured any more"
        return Result(fetch, "failed", reason="account-removed", detail=detail, counted=False, called=False)
    if fetch.call.page > configuration.following_up.max_pages:
        detail = f"the chain went past {configuration.following_up.max_pages} pages; what it brought is kept"
        return Result(fetch, "failed", reason="endless-pages", detail=detail, called=False)
    follow_up: FollowUp[Any, Any] = PROVIDERS[fetch.provider].follow_up
    limit = follow_up.limit(fetch.call, account)
    begun = await _within_budget(process, fetch, account, limit)
    if not isinstance(begun, ClaimedFetch):
        return begun
    return await _call(process, begun, account, follow_up, limit, configuration)


async def _within_budget(
    process: WorkerProcess, fetch: ClaimedFetch, account: AccountSettings, limit: Limit | None
) -> ClaimedFetch | Result | None:
    """The fetch, free to begin; or the wait to write down; or None when its claim was lost."""
    label = limit.scope if limit else f"GET {fetch.call.path}"
    waited = 0.0
    while True:
        try:
            wait = await process.budgets.take(fetch.provider, account, limit, label)
        except StoreAway as error:
            wait = Wait(BUDGET_AWAY_SECONDS, f"the budget cannot be asked: {error}")
            waited = WAIT_HERE_SECONDS
        if wait is None:
            break
        if wait.account_refused or waited + wait.seconds > WAIT_HERE_SECONDS:
            reason = "account-refused" if wait.account_refused else "budget"
            return Result(
                fetch, "waiting", reason=reason, detail=wait.why, wait_seconds=wait.seconds, counted=False, called=False
            )
        await asyncio.sleep(wait.seconds)
        waited += wait.seconds
    if not waited:
        return fetch
    # It begins later than it was claimed: its number must not make its answer look older than it is.
    async with process.pool.acquire() as connection:
        return await fetching.begin_anew(connection, fetch)


async def _call(
    process: WorkerProcess,
    fetch: ClaimedFetch,
    account: AccountSettings,
    follow_up: FollowUp[Any, Any],
    limit: Limit | None,
    configuration: Configuration,
) -> Result:
    policy = configuration.retry[fetch.provider]
    began = time.monotonic()
    status: int | None = None
    asked: float | None = None
    try:
        answer = await process.sessions.get(fetch.provider, account, fetch.call, follow_up, configuration)
        status, asked = answer.status, retry_after(answer.headers.get("retry-after"))
        if status in SUCCESS:
            outcome = follow_up.interpret(fetch.call, answer, account)
            took = f"{status} in {1000 * (time.monotonic() - began):.0f} ms"
            return Result(fetch, "done", outcome, status, detail=took)
        said = _said(answer)
    except RefusedAnswer as error:
        status, said = error.status, str(error)
    except (NoAnswer, BrokenAnswer) as error:
        reason = "no-answer" if isinstance(error, NoAnswer) else "broken-answer"
        return await _follow(process, fetch, account, limit, again(reason, str(error), fetch.attempts, policy), status)
    except Exception as error:
        # A fault of ours in reading the answer: the others of the batch go on, this one is tried again.
        log.exception("an answer could not be interpreted", fetch_id=fetch.id, account=fetch.account)
        verdict = again("broken-answer", f"interpreting failed: {type(error).__name__}", fetch.attempts, policy)
        return await _follow(process, fetch, account, limit, verdict, status)
    if status in INSTEAD and (others := follow_up.instead(fetch.call, status)):
        return Result(fetch, "done", Outcome(next=others), status, detail=f"{status}, asking elsewhere")
    verdict = judge(
        status=status,
        said=said,
        call=fetch.call,
        attempts=fetch.attempts,
        policy=policy,
        asked=asked,
        penalty=limit.penalty_seconds if limit else 0.0,
    )
    return await _follow(process, fetch, account, limit, verdict, status)


async def _follow(
    process: WorkerProcess,
    fetch: ClaimedFetch,
    account: AccountSettings,
    limit: Limit | None,
    verdict: Verdict,
    status: int | None,
) -> Result:
    """Turn a verdict into the result to store, and tell the account's budget what it means for other calls."""
    try:
        if verdict.account:
            await process.budgets.open_circuit(fetch.provider, account, verdict.detail, verdict.wait_seconds)
        elif verdict.slow_down:
            await process.budgets.pause(fetch.provider, account, limit, verdict.wait_seconds)
    except StoreAway as error:
        log.warning("the budget could not be told", reason=str(error))
    if verdict.kind == "gone":
        outcome = Outcome(records=PROVIDERS[fetch.provider].follow_up.tombstones(fetch.call))
        return Result(fetch, "done", outcome, status, detail=f"{status}, gone as announced")
    return Result(
        fetch,
        "waiting" if verdict.kind == "again" else "failed",
        status=status,
        reason=verdict.reason,
        detail=verdict.detail,
        wait_seconds=verdict.wait_seconds,
        counted=verdict.counted,
    )


async def _store(process: WorkerProcess, results: Sequence[Result]) -> None:
    """Commit results together; one that Postgres cannot take (a number past its range) is told from the others."""

    async def commit() -> None:
        async with process.pool.acquire() as connection:
            await fetching.commit(connection, results, process.watch.current.following_up.coalesce_seconds)

    for result in results:
        for blob in result.outcome.blobs:
            await process.blobs.put(blob.key, blob.content, uuid5(NAMESPACE_URL, blob.key))
    try:
        await again_on_conflict(commit)
    except asyncpg.DataError as error:
        if len(results) > 1:
            for result in results:
                await _store(process, [result])
            return
        policy = process.watch.current.retry[results[0].fetch.provider]
        verdict = again("broken-answer", f"Postgres cannot store it: {error}", results[0].fetch.attempts, policy)
        state = "waiting" if verdict.kind == "again" else "failed"
        failed = Result(
            results[0].fetch, state, reason=verdict.reason, detail=verdict.detail, wait_seconds=verdict.wait_seconds
        )
        await _store(process, [failed])


def _said(answer: Answer) -> str:
    """The beginning of an error's body, fit for one line."""
    text = answer.body[: 4 * SAID_CHARACTERS].decode(errors="replace")
    return " ".join(text.split())[:SAID_CHARACTERS]
