"""Erasure of one subject or of a whole account: Postgres, blobs and the spool; and looking for what is left.

It may be broken off anywhere and begun again: each step removes what it finds, and what leads to the rest goes last.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from shared.blobs import BlobMissing, BlobStore
from shared.data_keys import LEASE_SECONDS
from shared.private import open_record
from shared.providers.registry import PROVIDERS
from shared.sealing import BrokenSeal, Keys
from shared.spool import Spool
from shared.store import erasing, keys, remains
from shared.store.erasing import Erased, HeldEvent, HeldRecord
from shared.store.inbox import NewEvent
from shared.store.postgres import Connection
from shared.subjects import in_text, mentions, told_of


RECORDS_AT_ONCE: Final = 1000

Tell = Callable[[str], None]


class Whom(NamedTuple):
    """Whose data goes: all of an account's, or one subject's in it."""

    provider: str
    account: str
    subject: str | None = None


@dataclass(slots=True)
class Report:
    """What was removed (or would be), and what is left and why."""

    erased: Erased = field(default_factory=Erased)
    blobs: int = 0
    spooled: int = 0
    data_keys: int = 0
    unreadable: int = 0
    """Events of the account whose body cannot be opened, so that nobody can tell whether it names the subject."""
    left: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Erasure:
    """One erasure. ``run`` it once."""

    connection: Connection
    keys: Keys
    blobs: BlobStore
    spool: Spool | None
    whom: Whom
    dry_run: bool = False
    tell: Tell = lambda _step: None
    report: Report = field(default_factory=Report)
    _records: set[tuple[str, str]] = field(default_factory=set)
    _events: set[Any] = field(default_factory=set)
    _record_blobs: set[str] = field(default_factory=set)

    async def run(self) -> Report:
        """Erase, then look for what is left. Raises StoreAway."""
        account = (self.whom.provider, self.whom.account)
        await keys.look(self.connection, self.keys)
        wholly = self.whom.subject is None and not self.dry_run
        if wholly:
            # What comes in from now on is sealed with another key; this one is destroyed when nobody can use it more.
            await keys.retire(self.connection, account)
            retired_at = asyncio.get_running_loop().time()
        await self._erase()
        if wholly:
            self.tell("waiting until no process seals with the destroyed key any more")
            await asyncio.sleep(max(0.0, retired_at + LEASE_SECONDS + 1 - asyncio.get_running_loop().time()))
            await self._erase()
            self.report.data_keys = await keys.destroy_retired(self.connection, account)
        if not self.dry_run:
            self.tell("removing dead rows")
            await erasing.vacuum(self.connection)
            self.tell("looking for what is left")
            await self._look()
        return self.report

    async def _erase(self) -> None:
        provider, account = self.whom.provider, self.whom.account
        self.tell("spool")
        if self.spool is not None:
            self.report.spooled += await self.spool.erase(self._spooled, dry_run=self.dry_run)
        self.tell("finding records")
        async for chunk in erasing.records_of(self.connection, provider, account):
            for record in chunk:
                self._note(record)
        if self.whom.subject is not None:
            self.tell("finding changes")
            async for changes in erasing.changes_of(self.connection, provider, account):
                self._events |= {change.event_id for change in changes if self._of_subject(change)} - {None}
        await self._erase_all_events()
        await self._erase_calls_of_nobody()
        await self._erase_changes()
        await self._erase_records()
        if not self.dry_run:
            await erasing.erase_walks(self.connection, provider, account, wholly=self.whom.subject is None)

    async def _erase_all_events(self) -> None:
        provider, account = self.whom.provider, self.whom.account
        self.tell("events")
        for quarantined in (False, True):
            async for events in erasing.events_of(self.connection, provider, account, quarantined=quarantined):
                chosen = [event for event in events if await self._is_doomed(event, quarantined=quarantined)]
                await self._erase_events(chosen)

    async def _erase_calls_of_nobody(self) -> None:
        """Of a subject: an account's go at the end, all together."""
        provider, account, subject = self.whom
        if subject is None or self.dry_run:
            return
        async for fetches in erasing.calls_of_nobody(self.connection, provider, account):
            named = [fetch for fetch, calls in fetches if _in_calls(calls, subject)]
            if named:
                self._count(await erasing.erase_fetches(self.connection, named))

    async def _erase_changes(self) -> None:
        provider, account = self.whom.provider, self.whom.account
        self.tell("changes")
        async for changes in erasing.changes_of(self.connection, provider, account):
            if gone := [change for change in changes if self._of_subject(change)]:
                self._count(
                    Erased(changes=len(gone))
                    if self.dry_run
                    else await erasing.erase_changes(self.connection, gone, provider, account)
                )
            if not self.dry_run and (named := [each for each in changes if self._was_named(each)]):
                await erasing.forget_before(self.connection, named)

    # ── what belongs to whom ──────────────────────────────────────────────────────────────────────────────────────

    def _note(self, record: HeldRecord) -> None:
        """Remember a record of the subject's, the event that brought it and its blobs."""
        try:
            data = open_record(
                self.keys,
                self.whom.provider,
                self.whom.account,
                record.kind,
                record.external_id,
                record.data,
                record.sealed,
            )
        except BrokenSeal:
            data = record.data
        subject = self.whom.subject
        if subject is not None and record.external_id != subject and not mentions(data.encode(), subject):
            return
        self._records.add((record.kind, record.external_id))
        if record.event_id is not None:
            self._events.add(record.event_id)
        self._record_blobs |= set(_blobs_in(msgspec.json.decode(data)))

    def _of_subject(self, change: erasing.HeldChange) -> bool:
        return (
            self.whom.subject is None
            or change.external_id == self.whom.subject
            or (change.kind, change.external_id) in self._records
        )

    def _was_named(self, change: erasing.HeldChange) -> bool:
        """Whether an entry of another record's keeps the subject among its previous values."""
        subject = self.whom.subject
        return subject is not None and change.before is not None and mentions(change.before.encode(), subject)

    async def _is_doomed(self, event: HeldEvent, *, quarantined: bool) -> bool:
        """Whether an event goes: all of an account's; of a subject's those that led to its records or name it."""
        subject = self.whom.subject
        if subject is None:
            return not quarantined
        if (
            event.id in self._events
            or any(told_of(line, subject) for line in event.told.splitlines())
            or _in_calls(event.calls, subject)
        ):
            return True
        try:
            return mentions(await self._body(event), subject)
        except (BrokenSeal, BlobMissing):
            self.report.unreadable += event.body is not None or event.blob is not None
            return False

    async def _body(self, event: HeldEvent) -> bytes:
        if event.blob is not None:
            return await self.blobs.read(event.blob, event.id)
        return self.keys.unseal(event.body, event.id) if event.body is not None else b""

    def _spooled(self, event: NewEvent) -> bool:
        if (event.provider, event.account) != (self.whom.provider, self.whom.account):
            return False
        if self.whom.subject is None:
            return True
        try:
            # A large body is found once it is in Postgres; the relay moves it there.
            return event.body is not None and mentions(self.keys.unseal(event.body, event.id), self.whom.subject)
        except BrokenSeal:
            self.report.unreadable += 1
            return False

    # ── removing ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _erase_events(self, events: list[HeldEvent]) -> None:
        if not events:
            return
        if self.dry_run:
            self._count(Erased(events=len(events)))
        # The blobs first: the row is what leads to them.
        for event in events:
            if event.blob is not None:
                await self._erase_blob(event.blob)
            if PROVIDERS[self.whom.provider].privacy.images:
                await self._erase_blobs(f"{self.whom.provider}/{self.whom.account}/{event.id}/")
        if not self.dry_run:
            self._count(await erasing.erase_events(self.connection, [event.id for event in events]))

    async def _erase_records(self) -> None:
        self.tell("records")
        for blob in sorted(self._record_blobs):
            await self._erase_blob(blob)
        if self.whom.subject is None:
            await self._erase_blobs(f"{self.whom.provider}/{self.whom.account}/")
        found = sorted(self._records)
        for start in range(0, len(found), RECORDS_AT_ONCE):
            some = found[start : start + RECORDS_AT_ONCE]
            self._count(
                Erased(records=len(some))
                if self.dry_run
                else await erasing.erase_records(self.connection, some, self.whom.provider, self.whom.account)
            )

    async def _erase_blobs(self, prefix: str) -> None:
        found = [key async for batch in self.blobs.list(prefix) for key in batch]
        for key in found:
            await self._erase_blob(key)

    async def _erase_blob(self, key: str) -> None:
        try:
            await self.blobs.sealed_with(key)
        except BlobMissing:
            return
        self.report.blobs += 1
        if not self.dry_run:
            await self.blobs.delete(key)

    def _count(self, erased: Erased) -> None:
        self.report.erased = self.report.erased.plus(erased)

    # ── what is left ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        """Search everything again, as somebody else would, and say what is found and why."""
        provider, account, subject = self.whom
        left = self.report.left
        if subject is None:
            found = await remains.left_of_account(self.connection, provider, account)
            left += [f"{table}: {rows} rows{_WHY.get(table, _NEW)}" for table, rows in found]
        else:
            found = await remains.left_of_subject(self.connection, provider, account, subject)
            left += [f"{table}: {rows} rows{_WHY_SUBJECT}" for table, rows in found]
            again = [event async for event in self._doomed_still()]
            if again:
                left.append(f"events: {len(again)} bodies name it{_NEW}")
            if self.report.unreadable:
                left.append(
                    f"{self.report.unreadable} bodies cannot be opened, and nobody can tell whether they name it: their"
                    " key is not there"
                )
        if self.spool is not None and await self.spool.erase(self._spooled, dry_run=True):
            left.append(f"spool: entries{_NEW}")

    async def _doomed_still(self) -> AsyncIterator[HeldEvent]:
        self.report.unreadable = 0
        for quarantined in (False, True):
            async for events in erasing.events_of(
                self.connection, self.whom.provider, self.whom.account, quarantined=quarantined
            ):
                for event in events:
                    if await self._is_doomed(event, quarantined=quarantined):
                        yield event


_NEW: Final = ", which came in meanwhile: run it again"
_WHY: Final = {
    "data_keys": ": the key of what comes in from now on",
}
_WHY_SUBJECT: Final = " hold the same characters: of another kind of thing, or they came in meanwhile"


def _in_calls(calls: str, subject: str) -> bool:
    """Whether one of these paths and contexts, a line each, names the subject."""
    return any(
        in_text(line, subject) or (line.startswith("{") and mentions(line.encode(), subject))
        for line in calls.splitlines()
    )


def _blobs_in(value: Any) -> Iterator[str]:
    """The keys of the blobs that a record refers to."""
    match value:
        case {"blob": str(key), **_rest}:
            yield key
        case dict():
            for member in value.values():
                yield from _blobs_in(member)
        case list():
            for item in value:
                yield from _blobs_in(item)
