"""The plan step: what an event asks for."""

from typing import TYPE_CHECKING, Any

import structlog

from shared import reconciled
from shared.errors import PenstockError, Unreadable
from shared.providers.interface import Delivery, FollowUp, Plan
from shared.providers.registry import PROVIDERS
from shared.sealing import BrokenSeal
from shared.store.planning import ClaimedEvent, Planned
from workers.follow_up.privacy import sealed
from workers.process import WorkerProcess


if TYPE_CHECKING:
    from collections.abc import Sequence

log = structlog.get_logger("penstock.plan")


async def read(process: WorkerProcess, event: ClaimedEvent) -> Planned | None:
    """What one event asks for; whatever is wrong with it parks it and leaves its neighbours alone.

    None: it waits, for the settings of its account have vanished; the next beat gives it back.
    """
    provider = PROVIDERS.get(event.provider)
    account = process.watch.current.account(event.provider, event.account)
    if provider is None or account is None:
        return _without_account(process, event)
    follow_up: FollowUp[Any, Any] = provider.follow_up
    types: Sequence[str] = ()
    try:
        body = await _body(process, event)
        if event.reconciled:
            asked_for = reconciled.decode(body)
            _, calls = await sealed(process, event.provider, event.account, (), asked_for.calls)
            return Planned(event, (reconciled.TYPE,), asked_for.identity, calls)
        delivery = Delivery(event.id, event.account, body, event.content_type)
        read = follow_up.read(delivery, account)
        types = follow_up.types(read)
        asked = _bounded(follow_up.plan(read, delivery, account), process.watch.current.following_up.max_calls)
        for blob in asked.blobs:
            await process.may_seal(event.provider, event.account)
            await process.blobs.put(blob.key, blob.content, event.id, (event.provider, event.account))
        records, calls = await sealed(process, event.provider, event.account, asked.records, asked.calls)
    except Unreadable as error:
        return Planned(event, types=types, parked=(error.reason, error.detail))
    except BrokenSeal as error:
        return Planned(event, parked=("poison", f"the stored body cannot be opened: {error}"))
    except PenstockError:
        raise
    except Exception as error:
        # A fault of ours must not take the batch down with it; the event waits for the fix and a replay.
        log.exception(
            "an event could not be planned", provider=event.provider, account=event.account, event_id=str(event.id)
        )
        return Planned(event, types=types, parked=("poison", f"planning failed: {type(error).__name__}"))
    return Planned(event, types, follow_up.identity(read), calls, records)


def _without_account(process: WorkerProcess, event: ClaimedEvent) -> Planned | None:
    if process.watch.is_removed(event.provider, event.account):
        return Planned(event, parked=("account-removed", f"the account {event.account} was removed"))
    process.watch.doubt(event.provider, event.account)
    return None


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
