"""What is private of records and calls is sealed before it goes to Postgres."""

from collections.abc import Sequence
from dataclasses import replace

from shared.private import needs_key, open_call, seal_call, seal_record
from shared.providers.interface import Call, Record
from shared.providers.registry import PROVIDERS
from shared.store.fetching import ClaimedFetch, Result
from workers.process import WorkerProcess


async def sealed(
    process: WorkerProcess, provider: str, account: str, records: Sequence[Record], calls: Sequence[Call]
) -> tuple[Sequence[Record], Sequence[Call]]:
    """The same with their private members sealed with the account's data key. Raises StoreAway."""
    privacy = PROVIDERS[provider].privacy
    if any(needs_key(privacy, record) for record in records) or any(
        privacy.context & call.context.keys() for call in calls
    ):
        await process.may_seal(provider, account)
        records = [seal_record(process.keys, provider, account, privacy, record) for record in records]
        calls = [seal_call(process.keys, provider, account, privacy, call) for call in calls]
    return records, calls


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
    if records is outcome.records:
        return result
    return replace(result, outcome=replace(outcome, records=records, next=following), seen=None)
