"""From a delivery to the call it asks for, and from the answer to the gadget's record."""

import msgspec

from shared.errors import BrokenAnswer, Unreadable
from shared.providers.acme.events import AcmeEvent
from shared.providers.interface import Answer, Call, Outcome, Plan, Record
from shared.providers.json_text import as_jsonb, parse


GADGET = "gadget"

_TYPES = frozenset({"gadget.changed"})


class _Gadget(msgspec.Struct):
    id: int


def plan(event: AcmeEvent) -> Plan:
    """Read the gadget again. Raises Unreadable: ``unknown-type``."""
    if event.type not in _TYPES:
        raise Unreadable("unknown-type", f"{event.type} is not a type that is followed up")
    return Plan(calls=[Call(path=f"/v1/gadgets/{event.gadget}", purpose=GADGET)])


def interpret(call: Call, answer: Answer) -> Outcome:
    """The gadget as it was sent, with every digit. Raises BrokenAnswer."""
    found = str(parse(answer.body, _Gadget).id)
    if found != call.path.rpartition("/")[2]:
        raise BrokenAnswer("the answer is another gadget than the one asked for")
    return Outcome(records=[Record("acme.gadget", found, as_jsonb(answer.body.strip()))])
