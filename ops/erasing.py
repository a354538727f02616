"""Erasure of one subject or of a whole account: Postgres, blobs and the spool; and looking for what is left.

It may be broken off anywhere and begun again: each step removes what it finds, and what leads to the rest goes last.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from shared.blob_removal import Removal
from shared.blobs import BlobMissing, BlobStore
from shared.data_keys import KEPT_SECONDS, LEASE_SECONDS
from shared.private import open_record
from shared.providers.registry import PROVIDERS
from shared.sealing import BrokenSeal, Keys, Sealed
from shared.spool import Spool
from shared.store import blobs, erasing, keys, remains, retention_guard
from shared.store.erasing import Bound, Erased, HeldEvent, HeldRecord
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
    _bound: Bound | None = None
    """Of an account's erasure: what comes in later is kept."""
    _doomed_keys: frozenset[bytes] = frozenset()
    """Those that an account's erasure destroys: what they seal goes, whenever it came in."""

    async def run(self) -> Report:
        """Erase, then look for what is left. Raises StoreAway."""
        account = (self.whom.provider, self.whom.account)
        await keys.look(self.connection, self.keys)
        wholly = self.whom.subject is None and not self.dry_run
        if self.whom.subject is None:
            self._bound = await erasing.bound(self.connection)
        if wholly:
            # What comes in from now on is sealed with another key; this one is destroyed when nobody can use it more.
            await keys.retire(self.connection, account)
            retired_at = asyncio.get_running_loop().time()
            self._bound = await erasing.bound(self.connection)
            self._doomed_keys = await keys.retired(self.connection, account)
        await self._erase()
        if wholly:
            self.tell("waiting until nothing is on its way any more that the destroyed key seals")
            ends_at = retired_at + LEASE_SECONDS + KEPT_SECONDS + 1
            await asyncio.sleep(max(0.0, ends_at - asyncio.get_running_loop().time()))
            await self._erase()
            self.report.data_keys = await keys.destroy(self.connection, account, self._doomed_keys)
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
            doomed = await self._spooled()
            self.report.spooled += len(doomed)
            if doomed and not self.dry_run:
                await self.spool.erase(lambda event: event.id in doomed)
        if not self.dry_run:
            self.tell("finding blobs")
            await self._find_blobs()
        if self.whom.subject is not None:
            await self._find_subject()
        await self._erase_all_events()
        if self.whom.subject is None:
            await self._find_records()
        await self._erase_calls_of_nobody()
        await self._erase_changes()
        await self._erase_records()
        if not self.dry_run:
            await erasing.erase_walks(self.connection, provider, account, wholly=self.whom.subject is None)
            self.tell("blobs")
            for of in ((provider, account), ("", "")):
                self.report.blobs += await self._removal.remove_of(*of)

    async def _find_subject(self) -> None:
        """Its records, and the events that brought them or led to their changes."""
        await self._find_records()
        self.tell("finding changes")
        async for changes in erasing.changes_of(self.connection, self.whom.provider, self.whom.account):
            self._events |= {change.event_id for change in changes if self._of_subject(change)} - {None}

    async def _find_records(self) -> None:
        self.tell("finding records")
        async for chunk in erasing.records_of(self.connection, self.whom.provider, self.whom.account):
            for record in chunk:
                self._note(record)

    @property
    def _removal(self) -> Removal:
        return Removal(self.connection, self.blobs, self.spool)

    async def _find_blobs(self) -> None:
        """See to it that every object of the account has a row, also bodies that were refused after they were put.

        Of bodies the days are gone through that retention's own walk may not have seen yet.
        """
        days = await self._removal.days()
        if seen := await retention_guard.store_seen_at(self.connection):
            days = [day for day in days if day >= f"{seen - timedelta(days=2):%Y-%m-%d}"]
        await self._removal.find_of([*PROVIDERS], self.whom.provider, self.whom.account, days)

    async def _erase_all_events(self) -> None:
        provider, account = self.whom.provider, self.whom.account
        self.tell("events")
        for quarantined in (False, True):
            async for events in erasing.events_of(self.connection, provider, account, quarantined=quarantined):
                chosen = [event for event in events if await self._is_doomed(event, quarantined=quarantined)]
                await self._erase_events(chosen)

    async def _erase_calls_of_nobody(self) -> None:
        """Calls that no event leads to any more: those that name the subject, or all of the account's."""
        provider, account, subject = self.whom
        if self.dry_run:
            return
        async for fetches in erasing.calls_of_nobody(self.connection, provider, account):
            named = [fetch for fetch, calls in fetches if subject is None or _in_calls(calls, subject)]
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
        if subject is None and not self._is_old(record):
            return
        if subject is not None and record.external_id != subject and not mentions(data.encode(), subject):
            return
        self._records.add((record.kind, record.external_id))
        if record.event_id is not None:
            self._events.add(record.event_id)
        self._record_blobs |= set(_blobs_in(msgspec.json.decode(data)))

    def _of_subject(self, change: erasing.HeldChange) -> bool:
        if self._bound is not None:
            return change.of_nothing or change.at <= self._bound.at
        return change.external_id == self.whom.subject or (change.kind, change.external_id) in self._records

    def _was_named(self, change: erasing.HeldChange) -> bool:
        """Whether an entry of another record's keeps the subject among its previous values."""
        subject = self.whom.subject
        return subject is not None and change.before is not None and mentions(change.before.encode(), subject)

    async def _is_doomed(self, event: HeldEvent, *, quarantined: bool) -> bool:
        """Whether an event goes: all of an account's; of a subject's those that led to its records or name it."""
        subject = self.whom.subject
        if subject is None:
            return not quarantined and not await self._came_after(event.body, event.blob, event.received_at)
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

    def _is_old(self, record: HeldRecord) -> bool:
        """Whether a record was there when its account's erasure began, or can be read no more after it."""
        sealed = Sealed.of(record.sealed or b"")
        return (
            self._bound is None
            or record.began <= self._bound.claim
            or record.of_nothing
            or (sealed is not None and sealed.key_id in self._doomed_keys)
        )

    async def _came_after(self, body: bytes | None, blob: str | None, received_at: datetime) -> bool:
        """Whether a delivery came in after the erasure of its account began: by its key, by the clock if that is none.

        Ingress's clock may be another: what is sealed with a key that stays is kept, and the rest goes with its key.
        """
        held = Sealed.of(body or b"")
        if blob is not None:
            try:
                held = await self.blobs.sealed_with(blob)
            except BlobMissing:
                held = None
        if held is not None and not held.by_master:
            return held.key_id not in self._doomed_keys and not self.dry_run
        return self._bound is not None and received_at > self._bound.at

    async def _body(self, event: HeldEvent | NewEvent) -> bytes:
        if event.blob is not None:
            return await self.blobs.read(event.blob, event.id)
        return self.keys.unseal(event.body, event.id) if event.body is not None else b""

    async def _spooled(self) -> set[UUID]:
        """The events in the spool that go."""
        mine: list[NewEvent] = []
        if self.spool is not None:
            whose = (self.whom.provider, self.whom.account)
            await self.spool.erase(lambda event: _take(event, mine, whose), dry_run=True)
        doomed = set[UUID]()
        for event in mine:
            if self.whom.subject is None:
                goes = not await self._came_after(event.body, event.blob, event.received_at)
            else:
                try:
                    goes = mentions(await self._body(event), self.whom.subject)
                except (BrokenSeal, BlobMissing):
                    self.report.unreadable += 1
                    goes = False
            if goes:
                doomed.add(event.id)
        return doomed

    # ── removing ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _erase_events(self, events: list[HeldEvent]) -> None:
        if not events:
            return
        if self.dry_run:
            self._count(Erased(events=len(events)))
            self.report.blobs += sum(event.blob is not None for event in events)
            self.report.blobs += await blobs.of_events(self.connection, [event.id for event in events])
            return
        # What they name goes after them: their rows note it, and the place that removes blobs finds it.
        self._count(await erasing.erase_events(self.connection, [event.id for event in events]))

    async def _erase_records(self) -> None:
        self.tell("records")
        if self.dry_run:
            self.report.blobs += len(self._record_blobs)
        found = sorted(self._records)
        for start in range(0, len(found), RECORDS_AT_ONCE):
            some = found[start : start + RECORDS_AT_ONCE]
            self._count(
                Erased(records=len(some))
                if self.dry_run
                else await erasing.erase_records(self.connection, some, self.whom.provider, self.whom.account)
            )

    def _count(self, erased: Erased) -> None:
        self.report.erased = self.report.erased.plus(erased)

    # ── what is left ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        """Search everything again, as somebody else would, and say what is found and why."""
        provider, account, subject = self.whom
        left = self.report.left
        again = [event async for event in self._doomed_still()]
        if subject is None:
            found = await remains.left_of_account(self.connection, provider, account)
            left += [f"{table}: {rows} rows{_NEW}" for table, rows in found]
            if again:
                left.append(f"events: {len(again)} rows{_NEW}")
        else:
            found = await remains.left_of_subject(self.connection, provider, account, subject)
            left += [f"{table}: {rows} rows{_WHY_SUBJECT}" for table, rows in found]
            if again:
                left.append(f"events: {len(again)} bodies name it{_NEW}")
            if self.report.unreadable:
                left.append(
                    f"{self.report.unreadable} bodies cannot be opened, and nobody can tell whether they name it: their"
                    " key is not there"
                )
        if await self._spooled():
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
_WHY_SUBJECT: Final = " hold the same characters: of another kind of thing, or they came in meanwhile"


def _in_calls(calls: str, subject: str) -> bool:
    """Whether one of these paths and contexts, a line each, names the subject."""
    return any(
        in_text(line, subject) or (line.startswith("{") and mentions(line.encode(), subject))
        for line in calls.splitlines()
    )


def _take(event: NewEvent, mine: list[NewEvent], whose: tuple[str, str]) -> bool:
    if (event.provider, event.account) == whose:
        mine.append(event)
    return False


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
