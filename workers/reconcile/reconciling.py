"""Reconciliation: goes through what a provider holds, and makes an event for each thing that no delivery told of.

What differs is not written here: the event goes the ordinary way, so that whatever is newer by then wins.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec
from uuid_utils.compat import uuid7

from shared import reconciled
from shared.configuration import Configuration
from shared.private import open_record, seal_record
from shared.providers.account import AccountSettings
from shared.providers.interface import Call, FollowUp, Record, Survey
from shared.providers.registry import PROVIDERS
from shared.sealing import BrokenSeal, Keys
from shared.store import keys as data_keys
from shared.store.gaps import reconciling, walks
from shared.store.gaps.reconciling import Difference, Repair
from shared.store.gaps.walks import Tally, Walk
from shared.store.locking import alone
from shared.store.postgres import Connection
from workers.follow_up import chain
from workers.reconcile.surveying import Shown, Stopped, Surveyor


AT_ONCE: Final = 10
"""Calls made side by side, and so the most that are made again when the process dies."""

KNOWN_AT_ONCE: Final = 200

LEAST_USES: Final = 10_000
"""More than a step seals."""

Tell = Callable[[str, Tally], None]
"""Told the name of what is gone through, and the counts, after each step."""


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a walk has come: in which survey, behind which known thing, and the calls that come next.

    ``lacking``: the list is through, and what it lacks is asked for by its id.
    """

    survey: int = 0
    lacking: bool = False
    begun: bool = False
    after: str = ""
    calls: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """``stopped`` says why it did not come to its end, ``notes`` what it cannot show or did not see."""

    provider: str
    account: str
    since: datetime | None
    dry_run: bool
    resumed: bool
    tally: Tally
    notes: Sequence[str] = ()
    stopped: str | None = None


@dataclass(slots=True)
class Reconciliation:
    """One account's walk. ``run`` it once, on a connection that does nothing else meanwhile."""

    connection: Connection
    surveyor: Surveyor
    keys: Keys
    configuration: Configuration
    provider: str
    account: AccountSettings
    tell: Tell = lambda _name, _tally: None

    async def run(self, since: datetime | None = None, *, dry_run: bool = False) -> Report:
        """Go through everything, from where an earlier walk stopped. Raises StoreAway; else the report says it all."""
        follow_up: FollowUp[Any, Any] = PROVIDERS[self.provider].follow_up
        async with alone(self.connection, "reconcile", self.provider, self.account.name) as mine:
            if not mine:
                stopped = "another process reconciles this account now"
                return Report(
                    self.provider, self.account.name, since, dry_run, resumed=False, tally=Tally(), stopped=stopped
                )
            walk = await walks.open_walk(self.connection, self.provider, self.account.name, since, dry_run=dry_run)
            surveys = follow_up.surveys(self.account, walk.since)
            notes = [survey.said for survey in surveys if survey.said]
            why: str | None = None
            try:
                walk = await self._walk(walk, surveys, notes)
                await walks.finish(self.connection, walk)
            except _StoppedAt as error:
                walk, why = error.walk, str(error)
            return Report(self.provider, self.account.name, walk.since, dry_run, walk.resumed, walk.tally, notes, why)

    async def _walk(self, walk: Walk, surveys: Sequence[Survey], notes: list[str]) -> Walk:
        """The walk at its end. Raises _StoppedAt."""
        position = msgspec.convert(walk.position, Position)
        while position.survey < len(surveys):
            survey = surveys[position.survey]
            if not position.calls:
                position = await self._more(walk, survey, position)
                continue
            calls = [reconciled.as_call(call) for call in position.calls]
            batch, later = calls[:AT_ONCE], calls[AT_ONCE:]
            asked_at = await self.connection.fetchval("SELECT clock_timestamp()")
            try:
                shown = await self._ask(batch, survey, position, notes)
            except Stopped as error:
                raise _StoppedAt(str(error), walk) from None
            following = [*later, *self._bounded([call for each in shown for call in each.outcome.next], notes)]
            position = msgspec.structs.replace(position, calls=tuple(map(reconciled.as_json, following)))
            walk = await self._step(walk, survey, position, shown, asked_at)
            self.tell(survey.name, walk.tally)
        return walk

    async def _more(self, walk: Walk, survey: Survey, position: Position) -> Position:
        """The next calls of this survey; at its end the beginning of what comes after it."""
        if position.lacking or survey.of:
            find = walks.not_seen if position.lacking else walks.known
            make = survey.by_id if position.lacking else survey.calls
            kind = survey.complete if position.lacking else survey.of
            things = await find(self.connection, walk, kind, survey.keeps, position.after, KNOWN_AT_ONCE)
            if things:
                calls = [call for external_id, members in things for call in make(external_id, members)]
                return msgspec.structs.replace(
                    position, after=things[-1][0], calls=tuple(map(reconciled.as_json, calls))
                )
        elif not position.begun:
            return Position(position.survey, begun=True, calls=tuple(map(reconciled.as_json, survey.first)))
        if survey.complete and not position.lacking:
            return Position(position.survey, lacking=True)
        return Position(position.survey + 1)

    async def _ask(
        self, calls: Sequence[Call], survey: Survey, position: Position, notes: list[str]
    ) -> Sequence[Shown]:
        """What these calls show. Raises Stopped, when all of them are over."""
        answers = await asyncio.gather(
            *(self.surveyor.ask(self.provider, self.account, call, self.configuration) for call in calls),
            return_exceptions=True,
        )
        shown = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            shown.append(answer)
        if withheld := [each.call for each in shown if each.withheld]:
            if not survey.of and not position.lacking:
                raise Stopped(f"{self.provider} does not show its list: GET {withheld[0].path} is refused")
            note = f"some {survey.name} are not shown to this account's key (403, 404 or 410)"
            if note not in notes:
                notes.append(note)
        notes.extend(
            f"{survey.name}: {aside.what} cannot be read and was left out: {aside.why}"
            for each in shown
            for aside in each.outcome.set_aside
        )
        return shown

    def _bounded(self, calls: Sequence[Call], notes: list[str]) -> Sequence[Call]:
        """Without calls past the bound of a chain of pages, or back to a page that it has had."""
        most = self.configuration.following_up.max_pages
        kept = [call for call in calls if call.page <= most and not chain.goes_round(call)]
        if len(kept) < len(calls):
            notes.append("a list goes on without end, or in a circle; what its pages showed so far was compared")
        return kept

    async def _step(
        self, walk: Walk, survey: Survey, position: Position, shown: Sequence[Shown], asked_at: datetime
    ) -> Walk:
        """Compare, make events for what was missed, and note how far we are."""
        asked = {(record.kind, record.external_id): each.call for each in shown for record in each.outcome.records}
        records = [record for each in shown for record in each.outcome.records]
        await self._may_seal()
        differences = await reconciling.compare(
            self.connection,
            walk,
            [self._as_kept(record) for record in records],
            asked_at,
            whole=survey.whole or position.lacking,
            ignored=survey.ignored,
        )
        repairs = await self._repairs(walk, asked, differences)
        found = [difference for repair in repairs for difference in repair.differences]
        missing = sum(difference.missing for difference in found)
        seen: Mapping[tuple[str, str], Mapping[str, Any]] = (
            {
                (record.kind, record.external_id): _members(record, survey.keeps)
                for record in records
                if record.kind == survey.complete
            }
            if not position.lacking
            else {}
        )
        tally = Tally(len(asked), missing, len(found) - missing)
        return await reconciling.step(self.connection, walk, msgspec.to_builtins(position), tally, repairs, seen)

    async def _repairs(
        self, walk: Walk, asked: Mapping[tuple[str, str], Call], differences: Sequence[Difference]
    ) -> list[Repair]:
        """One event for each call that repairs, but none for what is being fetched anyway."""
        follow_up: FollowUp[Any, Any] = PROVIDERS[self.provider].follow_up
        by_call: dict[str, tuple[Call, list[Difference]]] = {}
        for difference in differences:
            record = difference.record
            stored = self._as_sent(difference)
            call = follow_up.repair(asked[record.kind, record.external_id], record, stored)
            by_call.setdefault(call.resource, (call, []))[1].append(difference)
        likely = [replace(call, missing=missing) for call, _ in by_call.values() for missing in ("retry", "tombstone")]
        busy = await reconciling.under_way(self.connection, walk, likely)
        return [
            self._repair(call, found)
            for call, found in by_call.values()
            if not busy & {replace(call, missing=missing).resource for missing in ("retry", "tombstone")}
        ]

    def _repair(self, call: Call, differences: Sequence[Difference]) -> Repair:
        event = uuid7()
        identity = reconciled.identity_of(call, [difference.fingerprint for difference in differences])
        body = reconciled.encode(identity, "; ".join(difference.said for difference in differences), [call])
        return Repair(event, identity, self.keys.seal(body, event, self._account), body, differences)

    @property
    def _account(self) -> tuple[str, str]:
        return self.provider, self.account.name

    async def _may_seal(self) -> None:
        if self.keys.data.left(self._account) < LEAST_USES:
            await data_keys.look(self.connection, self.keys)
            await data_keys.reserve(self.connection, self.keys, [self._account])

    def _as_kept(self, record: Record) -> Record:
        """With digests in place of private members, as the records in Postgres have them."""
        return seal_record(self.keys, *self._account, PROVIDERS[self.provider].privacy, record)

    def _as_sent(self, difference: Difference) -> str | None:
        """What is known of the record; nothing, if it cannot be opened."""
        if difference.stored is None:
            return None
        record = difference.record
        try:
            return open_record(
                self.keys, *self._account, record.kind, record.external_id, difference.stored, difference.sealed
            )
        except BrokenSeal:
            return None


class _StoppedAt(Stopped):
    """Stopped, with the walk as it stands."""

    def __init__(self, why: str, walk: Walk) -> None:
        super().__init__(why)
        self.walk = walk


def _members(record: Record, names: Sequence[str]) -> Mapping[str, Any]:
    if not names or record.data is None:
        return {}
    members = msgspec.json.decode(record.data, type=dict[str, msgspec.Raw])
    return {name: msgspec.json.decode(members[name]) for name in names if name in members}
