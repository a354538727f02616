"""The plan step: what an event asks for."""

import asyncio
from typing import Any, Final

import asyncpg
import structlog

from shared import reconciled
from shared.blobs import BlobMissing
from shared.configuration import Retry
from shared.errors import StoreAway, Unreadable
from shared.providers.interface import Delivery, FollowUp, Plan
from shared.providers.registry import PROVIDERS
from shared.sealing import BrokenSeal
from shared.store.planning import ClaimedEvent, Planned, PutOff
from shared.store.postgres import AWAY
from workers.backoff import wait_seconds
from workers.follow_up.blobs import put_blobs
from workers.follow_up.privacy import sealed
from workers.process import WorkerProcess


log = structlog.get_logger("penstock.plan")

READ_SECONDS: Final = 45.0
"""What takes longer (a blob store that hangs) is put off: well before the soft limit cancels its task and all."""

_PUT_OFF: Final = Retry(base_seconds=1.0, max_seconds=60.0, max_attempts=1)
"""How an event waits for a store of ours: never given up, since nothing that was acknowledged is."""


async def read(process: WorkerProcess, event: ClaimedEvent) -> Planned:
    """What one event asks for. Whatever goes wrong is its own verdict, parked or put off: nothing is raised."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _read(process, event)
    except Unreadable as error:
        return Planned(event, parked=(error.reason, error.detail))
    except BlobMissing as error:
        return Planned(event, parked=("body-missing", f"the body cannot be found: {error}"))
    except BrokenSeal as error:
        return Planned(event, parked=("poison", f"the stored body cannot be opened: {error}"))
    except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
        why = str(error) or f"its stores took longer than {READ_SECONDS:.0f} s"
        return Planned(event, put_off=PutOff(wait_seconds(_PUT_OFF, event.attempts + 1), why))
    except Exception as error:
        # A fault of ours: the event waits for the fix and a replay.
        log.exception(
            "an event could not be planned", provider=event.provider, account=event.account, event_id=str(event.id)
        )
        return Planned(event, parked=("poison", f"planning failed: {type(error).__name__}"))


def unstorable(plan: Planned, error: Exception) -> Planned:
    """The verdict on an event of which Postgres, or the code that writes to it, cannot take what it led to."""
    log.error("what an event led to cannot be stored", event_id=str(plan.event.id), error=str(error))
    return Planned(plan.event, parked=("poison", f"what it led to cannot be stored: {type(error).__name__}"))


async def _read(process: WorkerProcess, event: ClaimedEvent) -> Planned:
    provider = PROVIDERS.get(event.provider)
    account = process.watch.current.account(event.provider, event.account)
    if provider is None or account is None:
        return _without_account(process, event)
    follow_up: FollowUp[Any, Any] = provider.follow_up
    body = await _body(process, event)
    if event.reconciled:
        asked_for = reconciled.decode(body)
        _, calls = await sealed(process, event.provider, event.account, (), asked_for.calls)
        return Planned(event, (reconciled.TYPE,), asked_for.identity, calls)
    delivery = Delivery(event.id, event.account, body, event.content_type)
    read = follow_up.read(delivery, account)
    types = follow_up.types(read)
    try:
        asked = _bounded(follow_up.plan(read, delivery, account), process.watch.current.following_up.max_calls)
    except Unreadable as error:
        return Planned(event, types, parked=(error.reason, error.detail))
    await put_blobs(process, (event.provider, event.account), asked.blobs, event.id)
    records, calls = await sealed(process, event.provider, event.account, asked.records, asked.calls)
    return Planned(event, types, follow_up.identity(read), calls, records)


def _without_account(process: WorkerProcess, event: ClaimedEvent) -> Planned:
    if process.watch.is_removed(event.provider, event.account):
        return Planned(event, parked=("account-removed", f"the account {event.account} was removed"))
    process.watch.doubt(event.provider, event.account)
    why = f"the settings of the account {event.account} have vanished"
    return Planned(event, put_off=PutOff(wait_seconds(_PUT_OFF, event.attempts + 1), why))


def _bounded(asked: Plan, most: int) -> Plan:
    """The plan, unless it asks for too many calls. Raises Unreadable (``too-many-calls``)."""
    if len(asked.calls) > most:
        raise Unreadable("too-many-calls", f"it asks for {len(asked.calls):,} calls; max_calls is {most:,}")
    return asked


async def _body(process: WorkerProcess, event: ClaimedEvent) -> bytes:
    if event.body is None and event.blob is None:
        raise BrokenSeal("retention removed it")

    async def unseal() -> bytes:
        if event.blob is not None:
            return await process.blobs.read(event.blob, event.id)
        return process.keys.unseal(event.body or b"", event.id)

    return await process.unsealing(unseal)
