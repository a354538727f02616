"""Opens the private members of a record before it is handed over."""

from dataclasses import replace
from typing import Protocol

import structlog

from shared.errors import StoreAway
from shared.private import open_record
from shared.sealing import Sealed, UnknownKey
from shared.store import keys as data_keys
from shared.store.handovers.handing_over import ClaimedHandover
from shared.store.postgres import AWAY
from workers.process import WorkerProcess


log = structlog.get_logger("penstock.handlers")


class Opens(Protocol):
    """Whatever opens records."""

    async def open(self, claimed: ClaimedHandover) -> ClaimedHandover:
        """With the record as the application gets it; without a change where that is not kept any more."""


class Opener:
    """Opens them with the keys of a worker process."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    async def open(self, claimed: ClaimedHandover) -> ClaimedHandover:
        """With the record as the application gets it; without a change where the record's key was destroyed.

        Raises BrokenSeal where it was altered or a master key is missing, StoreAway where the key cannot be looked up.
        """
        change = claimed.change
        if change is None or change.record is None or change.sealed is None:
            return claimed
        of_record = (change.provider, change.account, change.kind, change.external_id)
        sealed = change.sealed

        async def unseal() -> str:
            return open_record(self._process.keys, *of_record, change.record or "{}", sealed)

        try:
            record = await self._process.unsealing(unseal)
        except UnknownKey as error:
            # A key that is only missing here says nothing about the record: it comes back with the settings.
            if not await self._was_destroyed(sealed):
                raise
            log.warning("a record cannot be opened", change=change.id, reason=str(error))
            return claimed._replace(change=None)
        except AWAY as error:
            raise _away(error) from None
        return claimed._replace(change=replace(change, record=record, sealed=None))

    async def _was_destroyed(self, sealed: bytes) -> bool:
        held = Sealed.of(sealed)
        if held is None or held.by_master:
            return False
        try:
            async with self._process.pool.acquire() as connection:
                return not await data_keys.is_kept(connection, held.key_id)
        except AWAY as error:
            raise _away(error) from None


def _away(error: Exception) -> StoreAway:
    return StoreAway(f"the key of a record cannot be looked up: {str(error) or type(error).__name__}")
