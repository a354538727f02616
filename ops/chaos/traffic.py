"""What is delivered during a scenario: all four providers' events, chosen by the seed, with a known right ending."""

import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ops.lab.accounts import STUDIOS
from ops.lab.imin_world import CAUSES
from ops.lab.magicline_events import EVENTS, UNDOCUMENTED
from ops.lab.paybook_world import V1_EVENTS, V3_EVENTS


_SHARES: Mapping[str, int] = {"magicline": 50, "imin": 30, "paybook": 10, "authenteq": 10}
_TWICE = 0.05
_UNKNOWN = 0.02
_DELETED = 0.02
_LARGE = 0.25
_SMALL_IMAGE, _LARGE_IMAGE = 2 * 1024, 40 * 1024
_FIRST_DELETED = 1_000_000

# Each of these takes something away that another event of the same run may still ask for: the rightful end of that one
# would then depend on who comes first. What is deleted here is deleted under ids of its own.
_TAKING_AWAY = frozenset(
    {
        "CUSTOMER_DELETED",
        "CUSTOMER_ACCESS_DISABLED",
        "EMPLOYEE_DELETED",
        "CLASS_SLOT_CANCELLED",
        "CONTRACT_IDLE_PERIOD_CANCELLED",
        "CONTRACT_ADDITIONAL_MODULE_DELETED",
    }
)
_KEEPING = tuple(event for event in EVENTS if event not in _TAKING_AWAY)


class Intent(NamedTuple):
    """One thing that is to happen at a provider; ``ends`` is the state in which its event has to end."""

    provider: str
    account: str
    event: str
    options: Mapping[str, Any]
    twice: bool
    ends: str


def intents(seed: object, events: int) -> Iterator[Intent]:
    """So many intents; the same ones for the same seed."""
    chance = random.Random(f"traffic {seed}")  # noqa: S311 - a run must be repeatable
    for number in range(events):
        provider = chance.choices(list(_SHARES), list(_SHARES.values()))[0]
        twice = chance.random() < _TWICE
        match provider:
            case "imin":
                yield Intent(provider, "main", chance.choice(CAUSES), {}, twice, "done")
            case "magicline":
                yield _of_magicline(chance, number, twice=twice)
            case "paybook":
                event = chance.choice((*V1_EVENTS, *V3_EVENTS))
                yield Intent(provider, "main", event, {"new": 1, "changed": 1}, twice, "done")
            case _:
                size = _LARGE_IMAGE if chance.random() < _LARGE else _SMALL_IMAGE
                yield Intent(provider, "main", "verification", {"image_bytes": size}, twice, "done")


def _of_magicline(chance: random.Random, number: int, *, twice: bool) -> Intent:
    account, draw = chance.choice(STUDIOS), chance.random()
    if draw < _UNKNOWN:
        return Intent("magicline", account, chance.choice(UNDOCUMENTED), {}, twice, "parked")
    if draw < _UNKNOWN + _DELETED:
        return Intent("magicline", account, "EMPLOYEE_DELETED", {"id": _FIRST_DELETED + number}, twice, "done")
    return Intent("magicline", account, chance.choice(_KEEPING), {}, twice, "done")
