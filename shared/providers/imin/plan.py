"""From a delivery to the call it asks for, and from the answers to one record and its notifications.

With ``extra_paths`` the answers make a chain: each next call carries what was read so far as JSON text, and the last
answer writes the record, so that the record is always whole.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw

from shared.errors import BrokenAnswer
from shared.providers.imin.api import identifier_in, path_of_account
from shared.providers.imin.events import IminEvent
from shared.providers.imin.settings import IminAccount
from shared.providers.interface import Answer, Call, Outcome, Plan, Record
from shared.providers.json_text import as_jsonb, compose, parse


CUSTOMER_ACCOUNT = "customer-account"
EXTRA = "customer-account-extra"

# An index row of Postgres holds about 2,700 bytes; an item with a longer @id stays in the account's record alone.
_LONGEST_ID = 2000


class _CustomerAccount(msgspec.Struct):
    identifier: str


class _Identified(msgspec.Struct):
    id: Raw = msgspec.field(name="@id", default=Raw(b"null"))


def plan(event: IminEvent, account: IminAccount) -> Plan:
    """Read the customer account again. Raises Unreadable: ``untrusted-url``."""
    return Plan(calls=[Call(path=path_of_account(event.url, account), purpose=CUSTOMER_ACCOUNT)])


def interpret(call: Call, answer: Answer, account: IminAccount) -> Outcome:
    """The account's record with its notifications, or the next extra call. Raises BrokenAnswer."""
    if call.purpose == EXTRA:
        path, identifier, extra = call.context["account_path"], call.context["identifier"], call.context["extra"]
        members = parse(call.context["collected"].encode(), dict[str, Raw])
        collected = compose({**members, extra: parse(answer.body, Raw)})
        remaining = call.context["remaining"]
    else:
        path, identifier = call.path, identifier_in(call.path)
        collected = _customer_account(answer, identifier)
        remaining = account.extra_paths
    if remaining:
        return Outcome(next=[_extra_call(path, identifier, remaining, collected, page=call.page + 1)])
    record = Record(f"imin.{CUSTOMER_ACCOUNT}", identifier, collected)
    return Outcome(records=[record, *_notifications(collected, re.compile(account.notification_keys), identifier)])


def _customer_account(answer: Answer, identifier: str) -> str:
    found = parse(answer.body, _CustomerAccount).identifier
    if found != identifier:
        raise BrokenAnswer("the answer is another customer's account than the one asked for")
    return as_jsonb(answer.body.strip())


def _extra_call(path: str, identifier: str, extras: Sequence[str], collected: str, *, page: int) -> Call:
    """The call for the first of ``extras``. ``pick`` keeps apart chains that began with different answers."""
    extra, *remaining = extras
    return Call(
        path=f"{path}/{extra}",
        purpose=EXTRA,
        context={
            "account_path": path,
            "identifier": identifier,
            "collected": collected,
            "extra": extra,
            "remaining": remaining,
        },
        pick=hashlib.sha256(collected.encode()).hexdigest(),
        completes=True,
        page=page,
    )


def _notifications(text: str, keys: re.Pattern[str], customer: str) -> list[Record]:
    """Each notification-like item once: the answer may show the same one in several places."""
    found: dict[str, Record] = {}
    for identifier, item in _identified_items(Raw(text.encode()), keys, listed=False):
        if identifier not in found:
            data = as_jsonb(item)
            found[identifier] = Record("imin.update-notification", identifier, data, once=True, owner=customer)
    return list(found.values())


def _identified_items(value: Raw, keys: re.Pattern[str], *, listed: bool) -> Iterator[tuple[str, Raw]]:
    """Every object with an ``@id`` in a list under a matching key, at any depth; slices, so digits are kept."""
    match bytes(value)[:1]:
        case b"{":
            for key, member in parse(bytes(value), dict[str, Raw]).items():
                yield from _identified_items(member, keys, listed=bool(keys.search(key)))
        case b"[":
            for item in parse(bytes(value), list[Raw]):
                if listed and (identifier := _id_of(item)):
                    yield identifier, item
                yield from _identified_items(item, keys, listed=False)


def _id_of(item: Raw) -> str | None:
    if not bytes(item).startswith(b"{"):
        return None
    raw = bytes(parse(bytes(item), _Identified).id)
    if not raw.startswith(b'"'):
        return None
    identifier = parse(raw, str)
    return identifier if 0 < len(identifier) <= _LONGEST_ID else None
