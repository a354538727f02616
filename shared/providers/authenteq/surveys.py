"""What reconciliation can go through at Authenteq: the verifications that are known already, one export each."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.providers.authenteq.api import path_of_result
from shared.providers.authenteq.plan import EXPORT, KIND, TAKE_OVER
from shared.providers.interface import Call, Record, Survey


def _export(external_id: str, members: Mapping[str, Any]) -> Sequence[Call]:
    del members
    return (Call(path_of_result(external_id), EXPORT, {"identifier": external_id}, missing="tombstone"),)


SURVEYS: Final = (
    Survey(
        name="verifications",
        of=KIND,
        calls=_export,
        whole=False,
        said="the verifications that are known already: Authenteq has no list, one that never arrived stays unseen",
    ),
)


def repair(call: Call, record: Record, stored: str | None) -> Call:
    """The export again, taken over into what is known; one that is gone is asked for as it was."""
    if record.deleted or stored is None:
        return call
    context = {"identifier": record.external_id, "data": stored}
    digest = hashlib.sha256(stored.encode()).hexdigest()
    return Call(call.path, TAKE_OVER, context, pick=digest, missing="tombstone")


def tombstones(call: Call) -> Sequence[Record]:
    """The verification that is no longer there."""
    return (Record(KIND, str(call.context["identifier"]), None, deleted=True),)
