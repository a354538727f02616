"""The apply step: what came of calls is stored together with their state."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import asyncpg
import structlog

from shared.errors import StoreAway
from shared.providers.interface import SetAside
from shared.sealing import BrokenSeal
from shared.store import fetching
from shared.store.fetching import Result
from shared.store.postgres import AWAY, is_about_data
from shared.store.records.recognising import NotAsBefore
from shared.store.records.refusals import find_refused, words
from workers.follow_up.blobs import put_blobs
from workers.follow_up.privacy import sealed_result
from workers.follow_up.recognising import read_after_all
from workers.follow_up.verdicts import again
from workers.process import WorkerProcess
from workers.transactions import again_on_conflict


log = structlog.get_logger("penstock.store")

STORE_RECORDS: Final = 10_000
"""About so many records are stored in one transaction; more pages than that are stored one after the other."""

AWAY_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 20.0
"""So long answers are kept for a Postgres that does not take them; then they are asked for again some time."""

STORE_AWAY_SECONDS: Final = (15.0, 60.0)
"""So long a call whose answer could not be kept waits for our own store, between these."""

TRIAL_SECONDS: Final = 20.0
"""So long it is tried which rows of an answer are refused; then it has failed as a whole."""

MOST_ASIDE: Final = 100
"""An answer with more rows that cannot be stored is not an answer with a bad row: it is asked for again."""


async def prepare(process: WorkerProcess, result: Result) -> Result:
    """The result as it is stored: its blobs kept, what is private sealed. What goes wrong with it is its verdict."""
    fetch = result.fetch
    try:
        await put_blobs(process, (fetch.provider, fetch.account), result.outcome.blobs)
        # One with rows that were set aside is not known when it comes again: they would not be told of.
        return await sealed_result(process, replace(result, seen=None) if result.outcome.set_aside else result)
    except Exception as error:  # noqa: BLE001 - told by the verdict
        return not_kept(process, fetch, error)


def not_kept(process: WorkerProcess, fetch: fetching.ClaimedFetch, error: Exception) -> Result:
    """The verdict on a fetch where something of ours went wrong; an attempt is used up unless a store was away."""
    if isinstance(error, BrokenSeal):
        return Result(fetch, "failed", reason="poison", detail=f"what is private of it cannot be sealed: {error}")
    away = isinstance(error, (StoreAway, asyncpg.PostgresError, *AWAY))
    if not away:
        log.error("what a call brought could not be kept", fetch_id=fetch.id, exc_info=error)
    detail = str(error) if away and str(error) else f"keeping what it brought failed: {type(error).__name__}"
    if away:
        # No attempt is used up, so nothing grows: it is the API that each try costs a call.
        seconds = random.uniform(*STORE_AWAY_SECONDS)  # noqa: S311 - spreads load, guards nothing
        return Result(fetch, "waiting", reason="store-away", detail=detail, wait_seconds=seconds, counted=False)
    return _again(process, fetch, detail)


def _again(process: WorkerProcess, fetch: fetching.ClaimedFetch, detail: str) -> Result:
    """Asked for again with backoff, or failed when the attempts are used up."""
    verdict = again("broken-answer", detail, fetch.attempts, process.watch.current.retry[fetch.provider])
    state = "waiting" if verdict.kind == "again" else "failed"
    return Result(fetch, state, reason=verdict.reason, detail=verdict.detail, wait_seconds=verdict.wait_seconds)


async def store(process: WorkerProcess, results: Sequence[Result]) -> None:
    """Commit results together; one that cannot be stored is told from the others, and a row of it from its neighbours.

    Answers are kept for a Postgres that does not take them for ``PATIENCE_SECONDS``. Raises what it said then.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    mends = [_without_refused, _failed]
    while True:
        try:
            await _store(process, results)
        except NotAsBefore:
            results = [await _after_all(process, result) for result in results]
        except Exception as error:
            if is_about_data(error) and len(results) > 1:
                for result in results:
                    await store(process, [result])
                return
            if is_about_data(error) and mends:
                results = [await mends.pop(0)(process, results[0], error)]
                continue
            if time.monotonic() > until:
                raise
            log.warning(
                "Postgres does not take what calls brought; trying again", reason=str(error) or type(error).__name__
            )
            await asyncio.sleep(AWAY_SECONDS)
        else:
            return


async def _after_all(process: WorkerProcess, result: Result) -> Result:
    """The result read, where it was taken for a known one that is not as before."""
    try:
        return await prepare(process, await read_after_all(process, result))
    except Exception as error:  # noqa: BLE001 - told by the verdict
        return not_kept(process, result.fetch, error)


async def _without_refused(process: WorkerProcess, result: Result, error: Exception) -> Result:
    """The result without the records that Postgres does not take; failed where that is none of them, or too many."""
    records = result.outcome.records

    async def find() -> Mapping[int, str] | None:
        async with process.pool.acquire() as connection:
            return await find_refused(connection, result.fetch, records, MOST_ASIDE)

    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            refused = await again_on_conflict(find)
    except Exception as fault:  # noqa: BLE001 - the trial is a favour: without it the answer has failed as a whole
        log.warning("what Postgres refuses of an answer cannot be told", reason=str(fault) or type(fault).__name__)
        refused = None
    if not refused or len(refused) == len(records):
        return await _failed(process, result, error)
    good = [record for place, record in enumerate(records) if place not in refused]
    aside = [SetAside(f"{records[place].kind}, row {place + 1}", why) for place, why in sorted(refused.items())]
    outcome = replace(result.outcome, records=good, set_aside=[*result.outcome.set_aside, *aside])
    return replace(result, outcome=outcome, seen=None)


async def _failed(process: WorkerProcess, result: Result, error: Exception) -> Result:
    """The verdict on an answer that cannot be stored."""
    log.error("what a call brought cannot be stored", fetch_id=result.fetch.id, reason=words(error))
    return _again(process, result.fetch, f"it cannot be stored: {words(error)}")


async def _store(process: WorkerProcess, results: Sequence[Result]) -> None:
    async def commit() -> fetching.Stored:
        async with process.pool.acquire() as connection:
            return await fetching.commit(connection, results, process.watch.current.following_up.coalesce_seconds)

    began = time.monotonic()
    stored = await again_on_conflict(commit)
    seconds = time.monotonic() - began
    process.metrics.stored(results, seconds)
    if not results:
        return
    provider = results[0].fetch.provider
    process.metrics.done(provider, stored.done)
    if process.tracing:
        first = sorted({event for result in results for event in result.fetch.events[:1]})
        about: dict[str, str | int] = {"penstock.provider": provider, "penstock.fetches": len(results)}
        process.tracing.steps("store", first, about, seconds)
