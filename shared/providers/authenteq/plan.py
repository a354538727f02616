"""From a delivery to its record and blobs, and from the exported result to the same record, confirmed or not."""

import hashlib
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw

from shared.errors import BrokenAnswer
from shared.providers.authenteq.api import path_of_result
from shared.providers.authenteq.events import IMAGES, AuthenteqEvent
from shared.providers.authenteq.settings import AuthenteqAccount
from shared.providers.interface import Answer, Blob, Call, Delivery, Outcome, Plan, Record
from shared.providers.json_text import compose, parse


KIND = "authenteq.verification"
CONFIRM = "confirm"
EXPORT = "export"
"""Looked at by reconciliation: the exported result without its images."""
TAKE_OVER = "take-over"
"""What reconciliation asks for: the exported result's members over those of the record."""

# What we put beside the result's own members; the exported result holds its images inline instead.
_NOTES = frozenset({"images", "missing_parts", "repeated_parts"})
# The export's documented sample leaves the status out (README.md, "Quirks"): its absence contradicts nothing.
_MAY_BE_LEFT_OUT = frozenset({"status"})

_exact = msgspec.json.Decoder(float_hook=Decimal)


def plan(event: AuthenteqEvent, delivery: Delivery, account: AuthenteqAccount) -> Plan:
    """The record and its blobs at once, for the delivery carries everything; with ``confirm`` one call as well."""
    prefix = f"authenteq/{delivery.account}/{delivery.event_id}"
    blobs = [Blob(f"{prefix}/{name}", image.content, image.content_type) for name, image in event.images.items()]
    data = _data(event, prefix)
    identifier = event.result.id
    calls = (
        # The record that it makes is the delivered one, as of when that came.
        [Call(path_of_result(identifier), CONFIRM, context={"identifier": identifier, "data": data}, completes=True)]
        if account.confirm
        else []
    )
    return Plan(calls=calls, records=[Record(KIND, identifier, data)], blobs=blobs)


def interpret(call: Call, answer: Answer) -> Outcome:
    """The delivered record again, with ``confirmed`` and the names of members that differ. Raises BrokenAnswer.

    For reconciliation: the exported result itself, alone or over what is known of it.
    """
    identifier = call.context["identifier"]
    exported = parse(answer.body, dict[str, Raw])
    if "id" not in exported or _value(exported["id"]) != identifier:
        raise BrokenAnswer("the answer is another verification than the one asked for")
    if call.purpose != CONFIRM:
        known = parse(call.context["data"].encode(), dict[str, Raw]) if call.purpose == TAKE_OVER else {}
        result = {name: value for name, value in exported.items() if name not in IMAGES}
        return Outcome(records=[Record(KIND, identifier, compose({**known, **result}))])
    delivered = parse(call.context["data"].encode(), dict[str, Raw])
    differences = [
        name
        for name in sorted((delivered.keys() | exported.keys()) - _NOTES - IMAGES)
        if not (name in _MAY_BE_LEFT_OUT and name not in exported)
        and _value(delivered.get(name)) != _value(exported.get(name))
    ]
    data = compose({**delivered, "confirmed": not differences, "confirmed_differences": differences})
    return Outcome(records=[Record(KIND, identifier, data)])


def _data(event: AuthenteqEvent, prefix: str) -> str:
    """The result's own members as they were sent, the images by reference, and what was odd about the parts."""
    data: dict[str, Any] = {
        **parse(event.result_json, dict[str, Raw]),
        "images": {
            name: {
                "blob": f"{prefix}/{name}",
                "content_type": image.content_type,
                "bytes": len(image.content),
                "sha256": hashlib.sha256(image.content).hexdigest(),
            }
            for name, image in event.images.items()
        },
    }
    if event.missing_parts:
        data["missing_parts"] = event.missing_parts
    if event.repeated_parts:
        data["repeated_parts"] = event.repeated_parts
    return compose(data)


def _value(raw: Raw | None) -> Any:
    """A value to compare: numbers exact, and absent the same as null, as members come and go by type of document."""
    if raw is None:
        return None
    try:
        return _exact.decode(raw)
    except msgspec.ValidationError:
        return bytes(raw)  # a number beyond what the decoder takes is compared by its digits
