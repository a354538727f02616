"""What reconciliation can go through at imin: the customer accounts that are known already, one by one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from shared.providers.imin.api import identifier_in
from shared.providers.imin.plan import CUSTOMER_ACCOUNT, EXTRA
from shared.providers.interface import Call, Record, Survey


_KIND: Final = f"imin.{CUSTOMER_ACCOUNT}"
_UNRESERVED: Final = "~!$&'()*+,=:@"
"""What stands in the path of a delivery as it is."""


def _account(external_id: str, members: Mapping[str, Any]) -> Sequence[Call]:
    del members
    path = f"/api/v2/customer-accounts/{quote(external_id, safe=_UNRESERVED)}"
    return (Call(path, CUSTOMER_ACCOUNT, missing="tombstone"),)


SURVEYS: Final = (
    Survey(
        name="customer accounts",
        of=_KIND,
        calls=_account,
        said="the customer accounts that are known already: imin has no list, one never told of stays unseen",
    ),
)


def repair(call: Call) -> Call:
    """The whole account again, whichever call of its chain showed the difference."""
    if call.purpose != EXTRA:
        return call
    return Call(str(call.context["account_path"]), CUSTOMER_ACCOUNT, missing="tombstone")


def tombstones(call: Call) -> Sequence[Record]:
    """The account that is no longer there."""
    return (Record(_KIND, identifier_in(call.path), None, deleted=True),)
