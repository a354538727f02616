"""What is private of records and calls is sealed before it goes to Postgres."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from shared.private import needs_key, open_call, seal_call, seal_record
from shared.providers.interface import Call, Privacy, Record
from shared.providers.registry import PROVIDERS
from shared.store.fetching import ClaimedFetch, Result
from workers.process import WorkerProcess


PIECE = 1000
"""Records that are sealed without a break: 40 ms and more of a processor."""
FEW = 200
"""Not worth a thread: they are sealed as soon as it would have begun."""


async def sealed(
    process: WorkerProcess, provider: str, account: str, records: Sequence[Record], calls: Sequence[Call]
) -> tuple[Sequence[Record], Sequence[Call]]:
    """The same with their private members sealed with the account's data key. Raises StoreAway."""
    privacy = PROVIDERS[provider].privacy
    if any(needs_key(privacy, record) for record in records):
        records = await _sealed_records(process, provider, account, privacy, records)
    if any(privacy.context & call.context.keys() for call in calls):
        await process.may_seal(provider, account)
        calls = [seal_call(process.keys, provider, account, privacy, call) for call in calls]
    return records, calls


async def _sealed_records(
    process: WorkerProcess, provider: str, account: str, privacy: Privacy, records: Sequence[Record]
) -> Sequence[Record]:
    seal = partial(seal_record, process.keys, provider, account, privacy)
    done: list[Record] = []
    for start in range(0, len(records), PIECE):
        piece = records[start : start + PIECE]
        # Anew for each: a key that is retired meanwhile, or used up, is not to seal the next one.
        await process.may_seal(provider, account)
        if len(piece) > FEW:
            done += await process.aside(partial(_each, seal, piece))
        else:
            done += _each(seal, piece)
    return done


def _each(seal: Callable[[Record], Record], records: Sequence[Record]) -> list[Record]:
    return [seal(record) for record in records]


async def opened(process: WorkerProcess, fetch: ClaimedFetch) -> ClaimedFetch:
    """The fetch with its call as it was planned. Raises BrokenSeal, UnknownKey."""
    privacy = PROVIDERS[fetch.provider].privacy
    if not privacy.context & fetch.call.context.keys():
        return fetch

    async def unseal() -> ClaimedFetch:
        call = open_call(process.keys, fetch.provider, fetch.account, privacy, fetch.call)
        return fetch._replace(call=call)

    return await process.unsealing(unseal)


async def sealed_result(process: WorkerProcess, result: Result) -> Result:
    """The result as it is stored: what it brought, sealed. Raises StoreAway."""
    outcome = result.outcome
    fetch = result.fetch
    records, following = await sealed(process, fetch.provider, fetch.account, outcome.records, outcome.next)
    if records is outcome.records and following is outcome.next:
        return result
    return replace(result, outcome=replace(outcome, records=records, next=following), seen=None)
