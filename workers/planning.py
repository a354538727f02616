"""The plan step: events are read, duplicates dropped, and what remains turned into fetches."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from shared.errors import PenstockError, Unreadable
from shared.providers.interface import Delivery, FollowUp
from shared.providers.registry import PROVIDERS
from shared.queue import fetch_task, plan_task
from shared.sealing import BrokenSeal
from shared.store import planning
from shared.store.opening import Opened
from shared.store.planning import ClaimedEvent, Planned
from shared.store.postgres import Connection
from workers.fetching import TASK_SECONDS, fetch
from workers.process import WorkerProcess
from workers.transactions import again_on_conflict
from workers.turns import Turns


log = structlog.get_logger("penstock.plan")


async def plan(process: WorkerProcess, provider: str, ids: Sequence[UUID]) -> str:
    """Plan the named events and whatever else of the provider is due, and make the first calls; says what was done.

    After ``TASK_SECONDS`` it takes no more and leaves the rest to a successor, so that no backlog meets the time limit.
    """
    until = time.monotonic() + TASK_SECONDS
    following_up = process.watch.current.following_up
    planned = duplicates = parked = 0
    turns = Turns()
    while turns.left:

        async def claim(connection: Connection) -> list[ClaimedEvent]:
            named = ids if turns.first else ()
            most = following_up.batch_events
            return await planning.claim(connection, provider, named, most, process.id, suspects=turns.suspects)

        async with process.holding(claim) as claimed:
            turns.took(claimed)
            if not claimed:
                continue
            done = await _commit(process, [await _read(process, event) for event in claimed])
        planned, duplicates, parked = planned + done.planned, duplicates + done.duplicates, parked + done.parked
        await _fetch_opened(process, provider, done.opened, until)
        if time.monotonic() > until:
            await process.wake(provider, plan_task(provider))
            break
    return f"{planned} planned, {duplicates} duplicates, {parked} parked"


async def _commit(process: WorkerProcess, plans: Sequence[Planned]) -> planning.Committed:
    async def commit() -> planning.Committed:
        async with process.pool.acquire() as connection:
            return await planning.commit(connection, plans, process.watch.current.following_up.coalesce_seconds)

    return await again_on_conflict(commit)


async def _fetch_opened(process: WorkerProcess, provider: str, opened: Sequence[Opened], until: float) -> None:
    """Make the first batch of calls here; further batches are messages of their own, for other processes to share."""
    due = [fetch.id for fetch in opened if fetch.due]
    batch = process.watch.current.following_up.concurrent_calls
    for start in range(batch, len(due), batch):
        await process.wake(provider, fetch_task(provider), due[start : start + batch])
    if due:
        await fetch(process, provider, due[:batch], until)


async def _read(process: WorkerProcess, event: ClaimedEvent) -> Planned:
    """What one event asks for; whatever is wrong with it parks it and leaves its neighbours alone."""
    provider = PROVIDERS.get(event.provider)
    account = process.watch.current.account(event.provider, event.account)
    if provider is None or account is None:
        return Planned(event, parked=("account-removed", f"the account {event.account} is not configured any more"))
    follow_up: FollowUp[Any, Any] = provider.follow_up
    types: Sequence[str] = ()
    try:
        body = await _body(process, event)
        delivery = Delivery(event.id, event.account, body, event.content_type)
        read = follow_up.read(delivery, account)
        types = follow_up.types(read)
        asked = follow_up.plan(read, delivery, account)
        for blob in asked.blobs:
            await process.blobs.put(blob.key, blob.content, event.id)
    except Unreadable as error:
        return Planned(event, types=types, parked=(error.reason, error.detail))
    except BrokenSeal as error:
        return Planned(event, parked=("poison", f"the stored body cannot be opened: {error}"))
    except PenstockError:
        raise
    except Exception as error:
        # A fault of ours must not take the batch down with it; the event waits for the fix and a replay.
        log.exception("an event could not be planned", event_id=str(event.id), account=event.account)
        return Planned(event, types=types, parked=("poison", f"planning failed: {type(error).__name__}"))
    return Planned(event, types, follow_up.identity(read), asked.calls, asked.records)


async def _body(process: WorkerProcess, event: ClaimedEvent) -> bytes:
    if event.blob is not None:
        return await process.blobs.read(event.blob, event.id)
    return process.keys.unseal(event.body or b"", event.id)
