"""Reading answers, and recognising large ones that came before: those are not read again."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

from shared.providers.account import AccountSettings
from shared.providers.interface import Answer, Call, FollowUp, Outcome
from shared.store.fetching import NOTHING, ClaimedFetch, Result
from shared.store.opening import resource_key
from shared.store.postgres import AWAY
from shared.store.records import recognising
from shared.store.records.recognising import Seen
from workers.process import WorkerProcess


WORTH_BYTES = 128 * 1024
"""An answer of ``WORTH_RECORDS`` is about so large; of a smaller one no digest is made."""

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
    if len(answer.body) < WORTH_BYTES or (essence := follow_up.essence(call, answer)) is None:
        return interpret(), None
    digest = hashlib.sha256(_VERSION)
    digest.update(essence)
    seen = Seen(digest.digest())
    resource = resource_key(fetch.provider, fetch.account, fetch.call)
    records = None
    with suppress(*AWAY):  # to recognise is a short cut; that Postgres is away shows when the answer is stored
        async with process.pool.acquire() as connection:
            records = await recognising.look(connection, resource, seen.digest)
    if records is None:
        return interpret(), seen
    return NOTHING, seen._replace(records=records, read=interpret)


def read_after_all(result: Result) -> Result:
    """The result with its answer read, if it was taken for a known one."""
    if result.seen is None or result.seen.read is None:
        return result
    return replace(result, outcome=result.seen.read(), seen=Seen(result.seen.digest))
