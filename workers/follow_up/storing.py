"""The apply step: what came of calls is stored together with their state."""

import time
from collections.abc import Sequence

import asyncpg

from shared.store import fetching
from shared.store.fetching import Result
from shared.store.records.recognising import NotAsBefore
from workers.follow_up.blobs import put_blobs
from workers.follow_up.privacy import sealed_result
from workers.follow_up.recognising import read_after_all
from workers.follow_up.verdicts import again
from workers.process import WorkerProcess
from workers.transactions import again_on_conflict


STORE_RECORDS = 10_000
"""About so many records are stored in one transaction; more pages than that are stored one after the other."""


async def store(process: WorkerProcess, results: Sequence[Result]) -> None:
    """Commit results together; one that Postgres cannot take (a number past its range) is told from the others."""
    for result in results:
        await put_blobs(process, (result.fetch.provider, result.fetch.account), result.outcome.blobs)
    await _store(process, [await sealed_result(process, result) for result in results])


async def _store(process: WorkerProcess, results: Sequence[Result]) -> None:
    async def commit() -> fetching.Stored:
        async with process.pool.acquire() as connection:
            return await fetching.commit(connection, results, process.watch.current.following_up.coalesce_seconds)

    began = time.monotonic()
    try:
        stored = await again_on_conflict(commit)
    except NotAsBefore:
        await store(process, [read_after_all(result) for result in results])
        return
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
        return
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
