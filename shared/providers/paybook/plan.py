"""Event -> calls; answer -> records and the next page."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any, Final, NamedTuple

import msgspec

from shared.errors import BrokenAnswer, Unreadable
from shared.providers.interface import Answer, Blob, Call, Outcome, Plan, Record
from shared.providers.json_text import as_jsonb, compose, each_as_jsonb, parse, without_bom
from shared.providers.paybook.api import listed_rows, trusted_url
from shared.providers.paybook.events import PaybookEvent
from shared.providers.paybook.settings import PaybookAccount
from shared.providers.rows import read_each


FOLLOWED_TYPES: Final = frozenset(
    {
        "credential_create",
        "credential_update",
        "refresh",
        "credentials.created",
        "credentials.updated",
        "credentials.refreshed",
    }
)

ENDLESS_PAGE: Final = 2**31 - 1
"""The page number that a repeating chain jumps to: past every bound, so that the engine ends it at once."""

# ── what an answer is made of, by the path that was asked ─────────────────────────────────────────────────────────

# Paths under a resource that answer with something else than its rows.
_NOT_AN_ID = frozenset({"count", "json", "zip", "extra"})


class _Row(msgspec.Struct, kw_only=True):
    """What is read of a row; everything else only travels."""

    is_deleted: Any = None


class _Credential(_Row):
    id: str | int = msgspec.field(name="id_credential")


class _Account(_Row):
    id: str | int = msgspec.field(name="id_account")


class _Transaction(_Row):
    id: str | int = msgspec.field(name="id_transaction")


class _Attachment(_Row):
    id: str | int = msgspec.field(name="id_attachment")


class _Resource(NamedTuple):
    kind: str
    rows: msgspec.json.Decoder[Any]


_RESOURCES: Final[Mapping[str, _Resource]] = {
    "credentials": _Resource("paybook.credential", msgspec.json.Decoder(list[_Credential])),
    "accounts": _Resource("paybook.account", msgspec.json.Decoder(list[_Account])),
    "transactions": _Resource("paybook.transaction", msgspec.json.Decoder(list[_Transaction])),
    "attachments": _Resource("paybook.attachment", msgspec.json.Decoder(list[_Attachment])),
}
"""The first path segment after ``/v1/`` (a call's purpose) -> what its rows become."""


def plan(event: PaybookEvent) -> Plan:
    """A call for each distinct URL of each user.

    Raises Unreadable: ``unknown-type``, ``untrusted-url``, ``wrong-shape``.
    A delivery of several events is planned whole or parked whole: an unknown one beside known ones parks them all,
    because only a parked event is seen by a person and replayed.
    """
    for notification in event.notifications:
        if notification.type not in FOLLOWED_TYPES:
            raise Unreadable("unknown-type", f"there is no follow-up for the event {notification.type}")
    wanted = dict.fromkeys(
        (notification.id_user, url) for notification in event.notifications for url in _urls(notification.endpoints)
    )
    highest: dict[tuple[str, ...], int] = {}
    for id_user, url in wanted:
        if page := _Page.of(url):
            key = (id_user, *page.list)
            highest[key] = max(page.skip, highest.get(key, 0))
    return Plan(calls=tuple(_call(id_user, url, highest) for id_user, url in wanted))


def _urls(endpoints: Any) -> Iterator[str]:
    """Every URL, whatever key it stands under (its path shows what it is); a key may be missing, null or empty."""
    lists = [urls for urls in endpoints.values() if urls is not None] if isinstance(endpoints, dict) else [endpoints]
    for urls in lists:
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise Unreadable("wrong-shape", "endpoints must hold lists of URLs")
        yield from urls


def _call(id_user: str, url: str, highest: Mapping[tuple[str, ...], int]) -> Call:
    purpose = _purpose(url)
    context: dict[str, Any] = {"id_user": id_user} if id_user else {}
    if page := _Page.of(url):
        context["last"] = page.skip == highest[id_user, *page.list]
    # Shared by events with the same user only, and a page that is to be followed never by one that is not.
    pick = ",".join(filter(None, (id_user, "last" if context.get("last") else "")))
    return Call(url, purpose, context, pick=pick)


def _purpose(url: str) -> str:
    resource, *rest = trusted_url(url).partition("?")[0].removeprefix("/v1/").split("/")
    if resource not in _RESOURCES or len(rest) > 1 or _NOT_AN_ID.intersection(rest):
        raise Unreadable("unknown-type", f"there is no record for answers of /v1/{'/'.join([resource, *rest])}")
    return resource


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_LIMIT = re.compile(r"[?&]limit=([^&]*)")
_SKIP = re.compile(r"[?&]skip=([^&]*)")
_COUNT = re.compile(r"[0-9]{1,9}")


class _Page(NamedTuple):
    """A URL with ``limit`` and ``skip``, taken apart so that all but the number of ``skip`` stays byte for byte."""

    before: str
    skip: int
    after: str
    limit: int

    @classmethod
    def of(cls, url: str) -> "_Page | None":
        """None for a URL that has not exactly one whole ``limit`` of at least 1 and one whole ``skip``."""
        limits, skips = list(_LIMIT.finditer(url)), list(_SKIP.finditer(url))
        if (
            len(limits) != 1
            or len(skips) != 1
            or not _COUNT.fullmatch(limits[0][1])
            or not _COUNT.fullmatch(skips[0][1])
        ):
            return None
        limit, skip = int(limits[0][1]), skips[0]
        return cls(url[: skip.start(1)], int(skip[1]), url[skip.end(1) :], limit) if limit else None

    @property
    def list(self) -> tuple[str, str]:
        """What all pages of one list have in common."""
        return self.before, self.after

    @property
    def next_url(self) -> str:
        """The page behind this one."""
        return f"{self.before}{self.skip + self.limit}{self.after}"


def _next_page(call: Call, first: str, rows: int) -> tuple[Call, ...]:
    """The page behind a full one, if no other call covers it: only the last listed page and those that follow it."""
    page = _Page.of(call.path)
    if page is None or not call.context.get("last") or rows != page.limit:
        return ()
    # A server that takes no notice of `skip` gives the same page for ever.
    repeats = first == call.context.get("first")
    context = {**call.context, "first": first}
    number = ENDLESS_PAGE if repeats else call.page + 1
    return (Call(page.next_url, call.purpose, context, pick=call.pick, page=number),)


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

_RECORD_ID = re.compile(r"[!-~]{1,200}")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")


def interpret(call: Call, answer: Answer, account: PaybookAccount) -> Outcome:
    """The rows of an answer as records, and the page behind it. Raises BrokenAnswer or RefusedAnswer."""
    if call.purpose == "attachments" and not _is_json(answer):
        return _file(call, answer, account)
    kind, decoder = _RESOURCES[call.purpose]
    listed = listed_rows(answer.body)
    rows = parse(listed, list[msgspec.Raw])
    try:
        ids, deleted = _known(kind, decoder, listed)
        texts = each_as_jsonb(listed, rows)
    except BrokenAnswer:
        records, aside = read_each(rows, lambda row: _record(kind, decoder, row))
        return Outcome(records, _next_page(call, records[0].external_id, len(rows)), set_aside=aside)
    first = ids[0] if ids else ""
    return Outcome(list(map(Record, repeat(kind), ids, texts, deleted)), _next_page(call, first, len(rows)))


# At the very beginning only: a row may have such a member too.
_REQUEST_ID = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"rid"\s*:\s*"[^"\\]*"')


def essence(call: Call, answer: Answer) -> memoryview | None:
    """A list's answer without the request's id, with which the envelope begins; None for a file."""
    if call.purpose == "attachments" and not _is_json(answer):
        return None
    begin = _REQUEST_ID.match(answer.body)
    return memoryview(answer.body)[begin.end() if begin else 0 :]


def _known(kind: str, decoder: msgspec.json.Decoder[Any], listed: bytes) -> tuple[list[str], list[bool]]:
    """The id of each row, and whether it is marked as deleted."""
    try:
        rows = decoder.decode(listed)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BrokenAnswer(f"a row is not a {kind} with its id") from None
    ids = [str(row.id) for row in rows]
    if not all(map(_RECORD_ID.fullmatch, ids)):
        raise BrokenAnswer(f"the id of a {kind} is empty or not plain ASCII")
    return ids, [_is_set(row.is_deleted) for row in rows]


def _record(kind: str, decoder: msgspec.json.Decoder[Any], row: msgspec.Raw) -> Record:
    """One row by itself. Raises BrokenAnswer."""
    [identifier], [deleted] = _known(kind, decoder, b"[" + bytes(row) + b"]")
    return Record(kind, identifier, as_jsonb(row), deleted)


def _is_set(flag: Any) -> bool:
    return bool(flag) and flag != "0"


def _is_json(answer: Answer) -> bool:
    """By content type; where none was sent, by the first character."""
    media_type = answer.content_type
    if not media_type:
        return without_bom(answer.body).lstrip()[:1] in {b"{", b"["}
    return media_type in {"application/json", "text/json"} or media_type.endswith("+json")


def _file(call: Call, answer: Answer, account: PaybookAccount) -> Outcome:
    """Keep what is no JSON as a blob, under a record named after the call: the answer itself bears no id."""
    if not answer.body or answer.content_type == "text/html":
        raise BrokenAnswer("an empty answer or a web page instead of attachments")
    media_type = answer.content_type if _MEDIA_TYPE.fullmatch(answer.content_type) else "application/octet-stream"
    digest = hashlib.sha256(answer.body).hexdigest()
    blob = Blob(f"paybook/{account.name}/{digest}", answer.body, media_type)
    data = compose({"blob": blob.key, "content_type": media_type, "bytes": len(answer.body), "sha256": digest})
    external_id = f"file:{hashlib.sha256(call.resource.encode()).hexdigest()}"
    return Outcome([Record("paybook.attachment", external_id, data)], blobs=[blob])
