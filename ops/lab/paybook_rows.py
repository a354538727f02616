"""Paybook's rows as bytes: made from a seed and an index, a page at a time, so that a million cost nothing until read.

Numbers are written as text and never pass through a float: amounts carry the binary noise of recorded answers
(``22339.470000000001``, providers.md 3.3), digit for digit the same at every read.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from ops.lab.happening import LabError
from ops.lab.seeded import mixed


_TRANSACTION = (
    '{"id_transaction":"%s%08x","id_account":"%s%08x","id_credential":"%s","id_user":"%s","id_external":"",'
    '"is_account_disable":0,"is_deleted":%d,"is_disable":%d,"is_pending":%d,"description":%s,"amount":%s,'
    '"currency":"MXN","attachments":[],"extra":null,"reference":null,"keywords":null,"dt_transaction":%d,'
    '"dt_refresh":%d,"dt_disable":%s,"dt_deleted":%s}'
)
_ATTACHMENT = (
    '{"id_attachment":"%s%08x","id_account":"%s%08x","id_user":"%s","id_external":"",'
    '"id_attachment_type":"56bcdfca784806d1378b4567","id_transaction":"%s%08x","is_valid":1,"file":"%08X.xml",'
    '"mime":null,"url":"/attachments/%s%08x","keywords":["3.3"],"dt_refresh":%d}'
)
_ACCOUNT = (
    '{"id_account":"%s%08x","id_account_type":"520d3aa93b8e778e0d000000","id_currency":"523a25953b8e77910e8b456c",'
    '"id_user":"%s","id_external":"","id_credential":"%s","id_site":"56cf5728784806f72b8b456f","is_disable":0,'
    '"name":"Checking %d","number":"%08d","balance":%s,"currency":"MXN","account_type":"Checking",'
    '"site":{"id_site":"56cf5728784806f72b8b456f","name":"Normal","organization":"Acme",'
    '"time_zone":"America/Mexico_City"},"extra":null,"keywords":null,"dt_refresh":%d}'
)
_PAGES_KEPT = 24


class Ids(NamedTuple):
    """The prefixes (16 hex digits) of one credential's ids; an index in 8 hex digits completes each."""

    credential: str
    user: str
    transaction: str
    account: str
    attachment: str
    accounts: int


class Row(NamedTuple):
    """What can change in a transaction; ``amount`` is the number's text."""

    description: str
    amount: str
    is_deleted: int
    is_disable: int
    is_pending: int
    dt_refresh: int

    def changed(self, changes: Mapping[str, Any], dt_refresh: int) -> "Row":
        """The row with some fields replaced; numbers may be given as text to keep their digits. Raises LabError."""
        if unknown := sorted(set(changes) - set(self._fields)):
            raise LabError(f"a transaction's {unknown[0]} cannot be changed; {', '.join(self._fields)} can")
        known = {**self._asdict(), "dt_refresh": dt_refresh, **changes}
        return Row(
            description=str(known["description"]),
            amount=str(known["amount"]),
            is_deleted=int(known["is_deleted"]),
            is_disable=int(known["is_disable"]),
            is_pending=int(known["is_pending"]),
            dt_refresh=int(known["dt_refresh"]),
        )


def amount(bits: int) -> str:
    """An amount's text: whole, with cents, with binary noise, or larger than a float holds exactly."""
    whole, cents = bits % 50_000, bits // 50_000 % 100
    sign = "-" if bits >> 40 & 1 else ""
    match bits >> 44 & 7:
        case 0:
            return f"{sign}{whole}"
        case 1 | 2:
            return f"{sign}{whole}.{cents:02d}0000000001"
        case 3:
            return f"{sign}{whole}.{cents:02d}9999999997"
        case 4:
            return f"{sign}90071992547{whole:05d}.{cents:02d}"
        case _:
            return f"{sign}{whole}.{cents:02d}"


def original(seed: int, index: int, dt_base: int) -> Row:
    """Transaction ``index`` as it was first read; a few are deleted, disabled or pending."""
    bits = mixed(seed + index)
    return Row(
        description=f"Card {bits % 1000}",
        amount=amount(bits),
        is_deleted=int(bits % 97 == 0),
        is_disable=int(bits % 89 == 0),
        is_pending=int(bits % 83 == 0),
        dt_refresh=dt_base,
    )


def transaction(ids: Ids, index: int, row: Row) -> str:
    """A transaction's JSON."""
    return _TRANSACTION % (
        ids.transaction,
        index,
        ids.account,
        index % ids.accounts,
        ids.credential,
        ids.user,
        row.is_deleted,
        row.is_disable,
        row.is_pending,
        orjson.dumps(row.description).decode(),
        row.amount,
        1_533_099_600 + index * 60,
        row.dt_refresh,
        row.dt_refresh if row.is_disable else "null",
        row.dt_refresh if row.is_deleted else "null",
    )


def attachment(ids: Ids, index: int, dt_refresh: int) -> str:
    """An attachment's JSON; its ``url`` lacks ``/v1``, as recorded (providers.md 3.3)."""
    own = (ids.attachment, index)
    return _ATTACHMENT % (
        *own,
        ids.account,
        index % ids.accounts,
        ids.user,
        ids.transaction,
        index,
        index,
        *own,
        dt_refresh,
    )


def account(ids: Ids, index: int, balance: str, dt_refresh: int) -> str:
    """An account's JSON."""
    return _ACCOUNT % (ids.account, index, ids.user, ids.credential, index + 1, index + 1, balance, dt_refresh)


class Pages:
    """The last encoded pages, so that a page asked for again (a retry, a duplicate) is not made again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    def get(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """The page of this key, made if it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        page = self._kept[key] = make()
        while len(self._kept) > _PAGES_KEPT:
            self._kept.popitem(last=False)
        return page
