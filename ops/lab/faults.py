"""Faults on demand: which calls go wrong, and how; decided from a seed, so that a run repeats."""

import re
from collections import Counter
from typing import Literal, get_args

import msgspec

from ops.lab.happening import LabError
from ops.lab.seeded import number


Kind = Literal[
    "slow",
    "status",
    "drop",
    "truncate",
    "not-json",
    "wrong-type",
    "wrong-shape",
    "endless-pages",
    "page-shift",
]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule. The first rule that fires decides what happens to a call.

    ``path`` is a regular expression searched for in the path with its query. ``probability`` is drawn anew for each
    call of a path, from the seed, the path and how many times it was called: not from the order in which different
    paths are called. ``skip`` lets that many matching calls of each path pass first, ``times`` bounds how often
    each path is hit. ``seconds`` is the delay of ``slow`` (and of ``drop``, before the connection is cut),
    ``status`` the answer of ``status`` (429, 500, 503 ...), with ``retry_after`` as its header when given.
    """

    kind: Kind
    provider: str = ""
    path: str = ""
    method: str = ""
    probability: float = 1.0
    skip: int = 0
    times: int | None = None
    seconds: float = 0.0
    status: int = 500
    retry_after: str | None = None


class Faults:
    """The rules in force and what they have done so far."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: list[tuple[Fault, re.Pattern[str]]] = []
        self._seen: Counter[tuple[int, str]] = Counter()
        self._hits: Counter[tuple[int, str]] = Counter()

    def set(self, rules: list[Fault]) -> None:
        """Replace all rules; counting begins anew, so the same calls meet the same faults. Raises LabError."""
        try:
            self._rules = [(rule, re.compile(rule.path)) for rule in rules]
        except re.error as error:
            raise LabError(f"fault: path is not a regular expression: {error}") from None
        self._seen.clear()
        self._hits.clear()

    def decide(self, provider: str, method: str, path: str) -> Fault | None:
        """The fault that this call meets, or None."""
        chosen: Fault | None = None
        for place, (rule, pattern) in enumerate(self._rules):
            if rule.provider not in {"", provider} or rule.method not in {"", method} or not pattern.search(path):
                continue
            key = (place, f"{method} {path}")
            self._seen[key] += 1
            if chosen is not None or self._seen[key] <= rule.skip:
                continue
            if rule.times is not None and self._hits[key] >= rule.times:
                continue
            if number(self._seed, place, provider, *key, self._seen[key]) / 2**64 < rule.probability:
                self._hits[key] += 1
                chosen = rule
        return chosen

    def shown(self) -> list[dict[str, object]]:
        """The rules with how often each was met, as JSON values."""
        return [
            {**msgspec.to_builtins(rule), "hits": sum(hits for key, hits in self._hits.items() if key[0] == place)}
            for place, (rule, _) in enumerate(self._rules)
        ]


def faults_from(values: object) -> list[Fault]:
    """The rules from JSON: a list, or one object. Raises LabError."""
    try:
        return msgspec.convert(values if isinstance(values, list) else [values], list[Fault])
    except msgspec.ValidationError as error:
        raise LabError(f"fault: {error}; kinds are {', '.join(get_args(Kind))}") from None
