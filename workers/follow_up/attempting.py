"""One attempt at one fetch: within the account's budget, the call itself, and what its answer means."""

import asyncio
import random
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import urlsplit

import structlog

from shared.budgets import Wait, in_force
from shared.circuits import Trouble
from shared.configuration import Configuration
from shared.errors import BrokenAnswer, RefusedAnswer, StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Answer, FollowUp, Limit, Outcome
from shared.providers.registry import PROVIDERS
from shared.store import fetching, waiting
from shared.store.fetching import ClaimedFetch, Result
from shared.tracing import Span
from workers.backoff import retry_after
from workers.calling import NoAnswer
from workers.follow_up import chain, recognising
from workers.follow_up.privacy import opened
from workers.follow_up.sessions import BUDGET_AWAY_SECONDS, WAIT_HERE_SECONDS, NotNow
from workers.follow_up.verdicts import SERVER_ERRORS, Verdict, again, judge
from workers.process import WorkerProcess
from workers.redacting import without_secrets


log = structlog.get_logger("penstock.fetch")

HELD_SECONDS = 300.0
VANISHED_SECONDS = 5.0
"""Afterwards its account is taken up again only where the settings are back."""
SUCCESS = range(200, 300)
REDIRECT = range(300, 400)
INSTEAD = frozenset({403, 404})
NO_SIGN_OF_HEALTH = frozenset({401, 402, 403, 429})
SAID_CHARACTERS = 200
_UNREADABLE: dict[type[Exception], tuple[str, Trouble | None]] = {
    NoAnswer: ("no-answer", "down"),
    BrokenAnswer: ("broken-answer", None),
}


async def attempt(process: WorkerProcess, fetch: ClaimedFetch) -> Result | None:
    """One attempt at one fetch, up to what is to be stored of it; None when its claim was lost on the way."""
    # Each attempt is a task of its own, and so is what is bound.
    structlog.contextvars.bind_contextvars(
        provider=fetch.provider,
        account=fetch.account,
        fetch_id=fetch.id,
        event_id=str(fetch.events[0]) if fetch.events else None,
    )
    configuration = process.watch.current
    account = configuration.account(fetch.provider, fetch.account)
    if account is None or fetch.provider not in PROVIDERS:
        if not process.watch.is_removed(fetch.provider, fetch.account):
            process.watch.doubt(fetch.provider, fetch.account)
            detail = f"the settings of the account {fetch.account} have vanished"
            return Result(
                fetch,
                "waiting",
                reason="settings-vanished",
                detail=detail,
                wait_seconds=VANISHED_SECONDS,
                counted=False,
                called=False,
            )
        detail = f"the account {fetch.account} was removed"
        return Result(fetch, "failed", reason="account-removed", detail=detail, counted=False, called=False)
    if fetch.call.page > configuration.following_up.max_pages:
        detail = f"the chain went past {configuration.following_up.max_pages} pages; what it brought is kept"
        return Result(fetch, "failed", reason="endless-pages", detail=detail, called=False)
    if chain.goes_round(fetch.call):
        detail = f"the chain came back to a page that it has had, {fetch.call.path}; what it brought is kept"
        return Result(fetch, "failed", reason="endless-pages", detail=detail, called=False)
    follow_up: FollowUp[Any, Any] = PROVIDERS[fetch.provider].follow_up
    limit = follow_up.limit(fetch.call, account)
    begun = await _within_budget(process, fetch, account, limit)
    if not isinstance(begun, ClaimedFetch):
        return begun
    began = time.monotonic()
    with _traced(process, begun) as span:
        result = await _call(process, begun, account, follow_up, limit, configuration)
        if span:
            span.set_attribute("penstock.fetch.state", result.state)
            span.set_attribute("http.response.status_code", result.status or 0)
    if result.called:
        process.metrics.called(fetch.provider, result.status, time.monotonic() - began)
    return result


def _traced(process: WorkerProcess, fetch: ClaimedFetch) -> AbstractContextManager[Span | None]:
    if process.tracing is None:
        return nullcontext()
    about: dict[str, str | int] = {
        "http.request.method": "GET",
        "penstock.provider": fetch.provider,
        "penstock.account": fetch.account,
        "penstock.fetch.id": fetch.id,
        "penstock.fetch.attempt": fetch.attempts,
    }
    # Not the URL: it may name a person.
    return process.tracing.call(f"GET {fetch.call.purpose}", fetch.events, about)


async def _within_budget(
    process: WorkerProcess, fetch: ClaimedFetch, account: AccountSettings, limit: Limit | None
) -> ClaimedFetch | Result | None:
    """The fetch, free to begin; or the wait to write down; or None when its claim was lost."""
    waited = 0.0
    while True:
        try:
            wait = await process.budgets.take(
                fetch.provider,
                account,
                limit,
                f"GET {fetch.call.purpose}",
                resource=fetch.call.resource,
                background=fetch.background,
                shares=process.watch.current.following_up.shares,
            )
        except StoreAway as error:
            wait = Wait(BUDGET_AWAY_SECONDS, f"the budget cannot be asked: {error}")
            waited = WAIT_HERE_SECONDS
        if wait is None:
            break
        if wait.circuit or waited + wait.seconds > WAIT_HERE_SECONDS:
            return _put_off(fetch, wait)
        await asyncio.sleep(wait.seconds)
        waited += wait.seconds
    if not waited:
        return fetch
    # It begins later than it was claimed: its number must not make its answer look older than it is.
    async with process.pool.acquire() as connection:
        return await fetching.begin_anew(connection, fetch)


def _put_off(fetch: ClaimedFetch, wait: Wait) -> Result:
    """The wait, written down and left to the relay."""
    if wait.circuit:
        return _held(fetch, wait.why)
    return Result(
        fetch, "waiting", reason="budget", detail=wait.why, wait_seconds=wait.seconds, counted=False, called=False
    )


def _held(fetch: ClaimedFetch, why: str, status: int | None = None) -> Result:
    """Put a fetch off until its account's circuit closes, which makes it due (``workers/follow_up/probing.py``).

    The time is only for the case that nobody ever closes it: spread, so that not all of them come at once.
    """
    seconds = HELD_SECONDS * random.uniform(1, 2)  # noqa: S311 - spreads load, guards nothing
    return Result(
        fetch,
        "waiting",
        status=status,
        reason=waiting.HELD,
        detail=why,
        wait_seconds=seconds,
        counted=False,
        called=status is not None,
    )


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
    doing = "calling"
    try:
        answer = await process.sessions.get(
            fetch.provider, account, fetch.call, follow_up, configuration, background=fetch.background
        )
        status, asked = answer.status, retry_after(answer.headers.get("retry-after"))
        if status in SUCCESS:
            doing = "interpreting"
            call = (await opened(process, fetch)).call
            outcome, seen = await recognising.read(process, fetch, call, answer, account, follow_up)
            outcome = chain.onward(call, outcome)
            doing = "telling the circuit"
            await _tell_of_answer(process, fetch, account, status)
            took = f"{status} in {1000 * (time.monotonic() - began):.0f} ms"
            return Result(fetch, "done", outcome, status, detail=took, seen=seen)
        said = _said(answer)
        refusal = follow_up.refusal(fetch.call, status, _text(answer))
    except NotNow as error:
        return _put_off(fetch, error.wait)
    except RefusedAnswer as error:
        status, said = error.status, without_secrets(str(error), account)
        refusal = follow_up.refusal(fetch.call, status, said)
    except (NoAnswer, BrokenAnswer) as error:
        reason, trouble = _UNREADABLE[type(error)]
        verdict = again(reason, str(error), fetch.attempts, policy, trouble=trouble)
        return await _follow(process, fetch, account, limit, verdict, status)
    except Exception as error:
        # A fault of ours: the others of the batch go on, this one is tried again.
        log.exception("an attempt failed unexpectedly", doing=doing)
        verdict = again("broken-answer", f"{doing} failed: {type(error).__name__}", fetch.attempts, policy)
        return await _follow(process, fetch, account, limit, verdict, status)
    await _tell_of_answer(process, fetch, account, status)
    if status in INSTEAD and (others := follow_up.instead(fetch.call, status)):
        return Result(fetch, "done", Outcome(next=others), status, detail=f"{status}, asking elsewhere")
    verdict = judge(
        status=status,
        said=said,
        call=fetch.call,
        account=account.name,
        attempts=fetch.attempts,
        refusals=fetch.refusals,
        refusal=refusal,
        policy=policy,
        asked=asked,
        longest=configuration.following_up.longest_retry_after_seconds,
        penalty=in_force(account, limit).penalty_seconds,
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
    """Turn a verdict into the result to store, and tell the account's budget and circuit what it means for others."""
    if verdict.empty_seconds:
        try:
            await process.budgets.pause(fetch.provider, account, limit, verdict.empty_seconds)
        except StoreAway as error:
            log.warning("the budget could not be told", reason=str(error))
    if verdict.trouble and await _opens_circuit(process, fetch, account, verdict, verdict.trouble):
        return _held(fetch, verdict.detail, status or 0)
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
        refused=verdict.refused,
    )


async def _opens_circuit(
    process: WorkerProcess, fetch: ClaimedFetch, account: AccountSettings, verdict: Verdict, trouble: Trouble
) -> bool:
    """Tell the circuit of a failure; whether it is open now."""
    circuits, seconds = process.budgets.circuits, process.watch.current.following_up.probe_seconds
    tell = circuits.open if verdict.for_certain else circuits.failed
    try:
        opened = await tell(fetch.provider, account, trouble, verdict.detail, seconds)
    except StoreAway as error:
        log.warning("the circuit could not be told", reason=str(error))
        return verdict.for_certain
    return opened or verdict.for_certain


async def _tell_of_answer(process: WorkerProcess, fetch: ClaimedFetch, account: AccountSettings, status: int) -> None:
    """An answer that is no trouble ends a row of failures; ``status`` is what it says once it is read."""
    if status >= SERVER_ERRORS or status in NO_SIGN_OF_HEALTH:
        return
    try:
        await process.budgets.circuits.succeeded(fetch.provider, account)
    except StoreAway as error:
        log.warning("the circuit could not be told", reason=str(error))


def _said(answer: Answer) -> str:
    """The beginning of an error's body, fit for one line; of a redirect, whose host it names."""
    if answer.status in REDIRECT and (location := answer.headers.get("location")):
        return f"it points to {_host(location)}, and redirects are not followed; see that base_url is right"
    return _text(answer)[:SAID_CHARACTERS]


def _text(answer: Answer) -> str:
    return " ".join(answer.body[: 4 * SAID_CHARACTERS].decode(errors="replace").split())


def _host(location: str) -> str:
    """Scheme and host alone: the rest of it may hold what nobody else should see."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "something that is no URL"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme or 'https'}://{host}"[:SAID_CHARACTERS] if host else "another path of the same host"
