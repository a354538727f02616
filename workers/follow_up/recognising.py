"""Reading answers, and recognising large ones that came before: those are not read again."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

from shared.providers.account import AccountSettings
from shared.providers.interface import Answer, Call, FollowUp, Outcome
from shared.store.fetching import NOTHING, ClaimedFetch, Result
from shared.store.opening import resource_key
from shared.store.postgres import AWAY
from shared.store.records import recognising
from shared.store.records.recognising import Seen
from workers.process import WorkerProcess


T = TypeVar("T")

WORTH_BYTES = 128 * 1024
"""An answer of ``WORTH_RECORDS`` is about so large; of a smaller one no digest is made."""
LARGE_BYTES = 1024 * 1024
"""To take one apart takes some 20 ms; larger ones would hold up whatever else is under way."""

# Another version may read the same answer in another way.
_VERSION = version("penstock").encode()


async def read(
    process: WorkerProcess,
    fetch: ClaimedFetch,
    call: Call,
    answer: Answer,
    account: AccountSettings,
    follow_up: FollowUp[Any, Any],
) -> tuple[Outcome, Seen | None]:
    """What an answer means; nothing yet for one that is known. Raises BrokenAnswer or RefusedAnswer."""
    interpret = partial(follow_up.interpret, call, answer, account)
    if len(answer.body) < WORTH_BYTES:
        return interpret(), None
    digest = await _apart(process, answer, partial(_digest, follow_up, call, answer))
    if digest is None:
        return await _apart(process, answer, interpret), None
    seen = Seen(digest)
    resource = resource_key(fetch.provider, fetch.account, fetch.call)
    records = None
    with suppress(*AWAY):  # to recognise is a short cut; that Postgres is away shows when the answer is stored
        async with process.pool.acquire() as connection:
            records = await recognising.look(connection, resource, seen.digest)
    if records is None:
        return await _apart(process, answer, interpret), seen
    return NOTHING, seen._replace(records=records, read=interpret)


async def _apart(process: WorkerProcess, answer: Answer, work: Callable[[], T]) -> T:
    """Do it to a large answer in a thread, so that calls, beats and other answers go on meanwhile."""
    return await process.aside(work) if len(answer.body) > LARGE_BYTES else work()


def _digest(follow_up: FollowUp[Any, Any], call: Call, answer: Answer) -> bytes | None:
    """None for an answer that is not recognised by its content."""
    essence = follow_up.essence(call, answer)
    if essence is None:
        return None
    digest = hashlib.sha256(_VERSION)
    digest.update(essence)
    return digest.digest()


async def read_after_all(process: WorkerProcess, result: Result) -> Result:
    """The result with its answer read, if it was taken for a known one."""
    if result.seen is None or result.seen.read is None:
        return result
    return replace(result, outcome=await process.aside(result.seen.read), seen=Seen(result.seen.digest))
