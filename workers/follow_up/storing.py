"""The apply step: what came of calls is stored together with their state."""

from collections.abc import Sequence
from uuid import NAMESPACE_URL, uuid5

import asyncpg

from shared.store import fetching
from shared.store.fetching import Result
from workers.follow_up.verdicts import again
from workers.process import WorkerProcess
from workers.transactions import again_on_conflict


STORE_RECORDS = 10_000
"""About so many records are stored in one transaction; more pages than that are stored one after the other."""


async def store(process: WorkerProcess, results: Sequence[Result]) -> None:
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
                await store(process, [result])
            return
        policy = process.watch.current.retry[results[0].fetch.provider]
        verdict = again("broken-answer", f"Postgres cannot store it: {error}", results[0].fetch.attempts, policy)
        state = "waiting" if verdict.kind == "again" else "failed"
        failed = Result(
            results[0].fetch, state, reason=verdict.reason, detail=verdict.detail, wait_seconds=verdict.wait_seconds
        )
        await store(process, [failed])
