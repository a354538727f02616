"""The life of an event and of a fetch: every state, every step between two states, and who takes it.

The database refuses a step that is not in these tables (triggers of the migrations). ``docs/lifecycle.md`` shows the
tables as pictures. Tests hold tables, triggers and pictures together.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple


Who = Literal["ingress", "reconcile", "plan", "fetch", "relay", "operator"]


class Step(NamedTuple):
    """One step that may be taken; None is before the row is there, or after it has gone."""

    was: str | None
    becomes: str | None
    who: Who
    why: str


# An event in `received` is due, or held by the worker process that plans it; in `processing` and `waiting` its fetches
# carry it on. The others are finished: nothing happens to them until somebody wants it.
EVENT_STEPS: Sequence[Step] = (
    Step(None, "received", "ingress", "an authentic delivery was kept"),
    Step(None, "received", "reconcile", "no delivery told of what the provider shows"),
    Step("received", "processing", "plan", "calls are to be made"),
    Step("received", "waiting", "plan", "it joined a call that waits for a later attempt"),
    Step("received", "done", "plan", "no call is needed"),
    Step("received", "duplicate", "plan", "its identity was seen before"),
    Step("received", "parked", "plan", "it cannot be read, or its account is gone"),
    Step("received", "parked", "relay", "poison, its worker died each time it was tried alone"),
    Step("processing", "waiting", "fetch", "a call is tried again later"),
    Step("processing", "done", "fetch", "every call is in"),
    Step("processing", "failed", "fetch", "every call is in or given up"),
    Step("processing", "parked", "fetch", "its account is gone"),
    Step("processing", "parked", "relay", "poison, a call's worker died each time it was made alone"),
    Step("waiting", "processing", "fetch", "what waited is tried again"),
    Step("done", "received", "operator", "replayed"),
    Step("duplicate", "received", "operator", "replayed"),
    Step("parked", "received", "operator", "replayed"),
    Step("parked", "received", "relay", "its account is configured again"),
    Step("failed", "received", "operator", "replayed"),
    Step(None, "quarantined", "ingress", "nobody proved to have sent it"),
    Step("quarantined", "received", "operator", "released"),
)

# `pending` and `waiting` are due at a time; a `running` fetch is held by a worker process.
FETCH_STEPS: Sequence[Step] = (
    Step(None, "pending", "plan", "an event asks for it"),
    Step(None, "running", "plan", "an event asks for it, and the call is made at once"),
    Step(None, "pending", "fetch", "a page says that there is more"),
    Step("pending", "running", "fetch", "claimed"),
    Step("running", "waiting", "fetch", "tried again later"),
    Step("waiting", "running", "fetch", "claimed"),
    Step("running", "done", "fetch", "its answer is stored"),
    Step("running", "failed", "fetch", "final, or attempts used up"),
    Step("running", "failed", "relay", "poison, its worker died each time it was made alone"),
    Step("running", "pending", "relay", "its worker died, or gave it back"),
    Step("pending", "waiting", "fetch", "took over one that is tried again later"),
    Step("running", None, "fetch", "taken over by a newer one for the same resource"),
    Step("running", None, "relay", "its worker died; taken over by a newer one"),
)


def _states(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(step.becomes for step in steps if step.becomes is not None))


EVENT_STATES = _states(EVENT_STEPS)
FETCH_STATES = _states(FETCH_STEPS)
