"""Which records of an answer Postgres refuses, where it does not take all of them together."""

from collections.abc import Sequence

import asyncpg

from shared.providers.interface import Record
from shared.store.fetching import ClaimedFetch
from shared.store.postgres import Connection, is_about_data
from shared.store.records import recording
from shared.store.records.sighting import Sighting


async def find_refused(
    connection: Connection, fetch: ClaimedFetch, records: Sequence[Record], most: int
) -> dict[int, str] | None:
    """The places of those that are refused, each with the reason; None where there are more than ``most``.

    They are tried in halves, in the order of their keys, within a transaction of which nothing stays.
    """
    faults: dict[int, str] = {}
    trial = connection.transaction()
    await trial.start()
    try:
        # In the order in which rows are locked by everybody.
        left = [sorted(range(len(records)), key=lambda place: (records[place].kind, records[place].external_id))]
        while left:
            places = left.pop()
            error = await _try(connection, fetch, [records[place] for place in places])
            if error is None:
                continue
            if len(places) > 1:
                half = len(places) // 2
                left += [places[half:], places[:half]]
                continue
            faults[places[0]] = words(error)
            if len(faults) > most:
                return None
    finally:
        await trial.rollback()
    return faults


def words(error: Exception) -> str:
    """What is wrong, without the value that is wrong: it may be personal, and it is in what asyncpg says."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.args[0]) if error.args else type(error).__name__
    return type(error).__name__


async def _try(connection: Connection, fetch: ClaimedFetch, records: Sequence[Record]) -> Exception | None:
    """Apply them within a savepoint; what was said against them. Raises what is not about them."""
    try:
        async with connection.transaction():
            await recording.apply(
                connection, [Sighting(fetch.provider, fetch.account, record, fetch.read_at, None) for record in records]
            )
    except Exception as error:
        if not is_about_data(error):
            raise
        return error
    return None
