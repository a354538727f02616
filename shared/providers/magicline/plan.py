"""What a delivery asks for, and what an answer means. The types themselves are in ``event_types``."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from shared.errors import BrokenAnswer, RefusedAnswer, Unreadable
from shared.providers.interface import Answer, Call, Outcome, Plan, Record
from shared.providers.json_text import as_jsonb, compose, parse, without_bom
from shared.providers.magicline.event_types import DEBTORS, EVENT_TYPES, READS, EventType, Read
from shared.providers.magicline.events import Entry, MagiclineEvent, as_id
from shared.providers.rows import read_each


Fields = dict[str, msgspec.Raw]
Item = msgspec.Raw

BEYOND_ANY_BOUND = 2**31 - 1
"""A page number that no setting allows: the engine ends such a chain as ``endless-pages`` without calling."""

_NAMES = re.compile(r"{(\w+)}")
_LONGEST_ID = 200
_NAMED_AT_MOST = 5
_ONE_DAY = timedelta(days=1)


class Slice(msgspec.Struct, rename="camel"):
    """One slice of a list. ``offset`` asks for the next one; it is an id here and a row count there: opaque."""

    result: list[Item]
    has_next: bool
    offset: str | int | None = None


class Id(msgspec.Struct):
    """An id under whatever name."""

    value: str | int | None


class CaseIds(msgspec.Struct, rename="camel"):
    """The names under which the vendor's pages speak of a debt collection case's id."""

    id: str | int | None = None
    agency_collection_case_id: str | int | None = None
    agency_debt_collection_case_id: str | int | None = None
    collection_case_id: str | int | None = None
    collection_case_ids: list[str | int] | None = None

    def known(self) -> list[str]:
        """All ids that are there, the record's external id first. Raises BrokenAnswer when there is none."""
        ids = [self.id, self.agency_collection_case_id, self.agency_debt_collection_case_id, self.collection_case_id]
        texts = [str(value) for value in (*ids, *(self.collection_case_ids or ())) if value not in {None, ""}]
        if not texts:
            raise BrokenAnswer("a debt collection case in the answer has no id")
        return texts


# ── event -> calls ────────────────────────────────────────────────────────────────────────────────────────────────


def plan(event: MagiclineEvent, account_name: str) -> Plan:
    """The calls and tombstones of all entries, each once. Raises Unreadable: ``unknown-type``, ``wrong-shape``.

    One unknown type among known ones parks the whole delivery: following up only a part would lose the rest.
    """
    if unknown := {entry.type: None for entry in event.payload if entry.type not in EVENT_TYPES}:
        some = ", ".join(list(unknown)[:_NAMED_AT_MOST])
        raise Unreadable("unknown-type", f"not among Magicline's known event types: {some}")
    calls: dict[str, Call] = {}
    records: dict[tuple[str, str], Record] = {}
    for entry in event.payload:
        event_type = EVENT_TYPES[entry.type]
        if event_type.deleted:
            record = Record(event_type.deleted, str(event.entity_id), None, deleted=True)
            records[record.kind, record.external_id] = record
        for call in _calls(event_type, event, entry, account_name):
            calls.setdefault(call.resource, call)
    return Plan(calls=tuple(calls.values()), records=tuple(records.values()))


def _calls(event_type: EventType, event: MagiclineEvent, entry: Entry, account_name: str) -> Iterator[Call]:
    if event_type.read is None:
        return
    known = {
        "account": account_name,
        # Days in the studio's own zone are asked for; the UTC days around the event hold that day in every zone.
        # Taken from the event, not from a clock: a replay asks the same, and a day's events share one call.
        "fromDate": str(entry.day - _ONE_DAY),
        "toDate": str(entry.day + _ONE_DAY),
    }
    if event_type.each:
        for customer_id in _customers(entry, event_type.each):
            yield _call(event_type.read, entry, {**known, "customerId": str(customer_id)})
    else:
        yield _call(event_type.read, entry, {**known, event_type.entity: str(event.entity_id)})


def _customers(entry: Entry, name: str) -> list[int]:
    """The ``customerId`` of each item of a list in ``content``."""
    items = entry.named(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Unreadable("wrong-shape", f"{entry.type}: content.{name} must be a list of objects")
    where = f"{entry.type}: content.{name}[].customerId"
    return [as_id(item.get("customerId"), where) for item in items]


def _call(read: Read, entry: Entry, known: Mapping[str, str]) -> Call:
    """The call of a read; ids that the event does not name otherwise are looked for in ``content``."""
    in_path = _NAMES.findall(read.path)
    needed = [*in_path, *filter(None, [read.known_id])]
    values = {name: known[name] if name in known else str(entry.id(name)) for name in needed}
    external_id = values.get(read.known_id, "")
    is_told_by_path = read.known_id in {*in_path, "account"}
    pick = _case_id(entry) if read.shape == "cases" else "" if is_told_by_path else external_id
    return Call(
        path=read.path.format_map(values),
        purpose=read.purpose,
        context={"external_id": external_id} if external_id else {},
        pick=pick or read.elsewhere,  # a call that may go elsewhere is not joined by one that may not
        missing=_missing(entry.type),
    )


def _case_id(entry: Entry) -> str:
    """The id of a debt collection case: the agency's own, or else Magicline's; both are texts. Empty: none is named."""
    for name in ("agencyDebtCollectionCaseId", "collectionCaseId"):
        match entry.named(name):
            case None:
                continue
            case str() as text if 0 < len(text) <= _LONGEST_ID:
                return text
            case other:
                return str(as_id(other, f"{entry.type}: content.{name}"))
    return ""


def _missing(event_type: str) -> Literal["retry", "tombstone"]:
    """A 404 is as announced after ``*_DELETED`` and ``*_CANCELLED``; after the others it may be the API's lag."""
    return "tombstone" if event_type.endswith(("_DELETED", "_CANCELLED")) else "retry"


# ── answer -> records and next slice ──────────────────────────────────────────────────────────────────────────────


def interpret(call: Call, answer: Answer) -> Outcome:  # noqa: PLR0911 - one return a shape
    """Records and the next slice. Raises BrokenAnswer, or RefusedAnswer 404 when a list lacks what is looked for."""
    read = READS[call.purpose]
    match read.shape:
        case "object":
            return Outcome(records=(_object(read, call, answer.body),))
        case "list":
            return _picked(call, _listed(read, call, answer.body))
        case "array":
            records, aside = read_each(parse(answer.body, list[Item]), partial(_item, read))
            return Outcome(records=records, set_aside=aside)
        case "cases":
            return _picked(call, _cases(read, call, answer.body))
        case "slices":
            part = parse(answer.body, Slice)
            records, aside = read_each(part.result, partial(_item, read))
            return Outcome(records=records, next=_next(call, part, {}), set_aside=aside)
        case "run":
            return _debt_run(call, answer.body)
        case "debtors":
            return _debtors(read, call, answer.body)


def tombstones(call: Call) -> tuple[Record, ...]:
    """The record that a call whose 404 was announced no longer finds."""
    return (Record(READS[call.purpose].kind, str(call.context["external_id"]), None, deleted=True),)


def instead(call: Call, status: int) -> tuple[Call, ...]:
    """Where else to look for what this call was refused; the former studio may no longer see who has moved."""
    read = READS[call.purpose]
    if not read.elsewhere or status not in {403, 404}:
        return ()
    other = READS[read.elsewhere]
    path = other.path.format(**{other.known_id: call.context["external_id"]})
    return (Call(path=path, purpose=other.purpose, context=call.context, missing=call.missing),)


def _object(read: Read, call: Call, body: bytes) -> Record:
    """One object under its own id, or under the id that the event told."""
    if read.wrap and without_bom(body).lstrip().startswith(b"["):
        data = as_jsonb(compose({read.wrap: parse(body, list[Item])}).encode())
        return Record(read.kind, call.context["external_id"], data)
    fields = parse(body, Fields)
    external_id = _id(fields, read.own_id) if read.own_id else call.context["external_id"]
    return Record(read.kind, external_id, as_jsonb(body.strip()))


def _item(read: Read, item: Item) -> Record:
    return Record(read.kind, _id(parse(bytes(item), Fields), read.own_id), as_jsonb(item))


def _listed(read: Read, call: Call, body: bytes) -> list[Record]:
    """The items of a bare array that have the picked id; there is no endpoint that gives one alone.

    Raises BrokenAnswer where it may be one that cannot be read.
    """
    records, aside = read_each(parse(body, list[Item]), partial(_item, read))
    picked = [record for record in records if record.external_id == call.pick]
    if aside and not picked:
        raise BrokenAnswer(f"{aside[0].what}: {aside[0].why}")
    return picked


def _picked(call: Call, records: list[Record]) -> Outcome:
    """What was looked for in a list; without it the answer means what a 404 means."""
    if records:
        return Outcome(records=tuple(records))
    if call.missing == "tombstone":
        return Outcome(records=tombstones(call))
    raise RefusedAnswer(404, f"the {call.purpose} in the answer do not include {call.pick or 'any'}")


def _cases(read: Read, call: Call, body: bytes) -> list[Record]:
    """Debt collection cases; Magicline groups them by debtor (``agencyCollectionCases``), whose own fields are kept."""
    records = []
    for item in parse(body, list[Item]):
        debtor = parse(bytes(item), Fields)
        grouped = debtor.pop("agencyCollectionCases", None)
        for case in [item] if grouped is None else parse(bytes(grouped), list[Item]):
            ids = parse(bytes(case), CaseIds).known()
            if call.pick in {"", *ids}:
                fields = {**parse(bytes(case), Fields), "debtor": debtor}
                data = as_jsonb(case if grouped is None else compose(fields).encode())
                records.append(Record(read.kind, ids[0], data))
    return records


def _debt_run(call: Call, body: bytes) -> Outcome:
    """The run's details wait in the context of the call for its debtors: both become one record."""
    parse(body, Fields)
    run = str(call.context["external_id"])
    context = {"external_id": run, "details": as_jsonb(body.strip()), "debtors": []}
    path = DEBTORS.path.format(debtCollectionRunId=run)
    return Outcome(
        next=(Call(path, DEBTORS.purpose, context, pick=_fingerprint(context), completes=True, page=call.page + 1),)
    )


def _debtors(read: Read, call: Call, body: bytes) -> Outcome:
    """The run is complete, and becomes a record, with the last slice of its debtors."""
    part = parse(body, Slice)
    debtors = [*call.context["debtors"], *(as_jsonb(item) for item in part.result)]
    if part.has_next:
        return Outcome(next=_next(call, part, {**call.context, "debtors": debtors}))
    details = parse(call.context["details"].encode(), Fields)
    members = {**details, "debtors": [msgspec.Raw(debtor.encode()) for debtor in debtors]}
    return Outcome(records=(Record(read.kind, call.context["external_id"], compose(members)),))


def _next(call: Call, part: Slice, context: Mapping[str, Any]) -> tuple[Call, ...]:
    """The call for the next slice; ``offset`` goes back as it came."""
    if not part.has_next:
        return ()
    if part.offset is None or not (offset := str(part.offset)):
        raise BrokenAnswer("the answer says hasNext but has no offset to go on with")
    first = call.path.partition("&offset=")[0]
    path = f"{first}&offset={quote(offset, safe='')}"
    # The offset that was just asked for leads to the same slice for ever.
    page = BEYOND_ANY_BOUND if path == call.path else call.page + 1
    return (
        Call(
            path=path,
            purpose=call.purpose,
            context=context,
            pick=_fingerprint(context),
            completes=call.completes,
            page=page,
        ),
    )


def _fingerprint(context: Mapping[str, Any]) -> str:
    """What an answer is added to is part of its meaning, so two chains that differ in it share no fetch."""
    return hashlib.blake2b(msgspec.json.encode(context), digest_size=8).hexdigest() if context else ""


def _id(fields: Fields, name: str) -> str:
    """An id as text, whether sent as a number or as a string. Raises BrokenAnswer when it is missing or empty."""
    found = parse(compose({"value": fields.get(name)}).encode(), Id).value
    if found in {None, ""}:
        raise BrokenAnswer(f"the answer has the wrong shape: there is no {name}")
    return str(found)
