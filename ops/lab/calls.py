"""Every API call that the lab has seen, so that a test can prove what was asked for and how often."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import msgspec


_KEPT = 200_000


class Call(msgspec.Struct, frozen=True):
    """One call. ``status`` 0: no status was sent. ``outcome``: ok, refused, limited or the fault's kind.

    ``account`` is the account whose key was shown, empty when the key is nobody's. ``at`` is unix time at the
    call's begin, ``ms`` how long it took, ``path`` carries the query.
    """

    number: int
    provider: str
    account: str
    method: str
    path: str
    status: int
    outcome: str
    at: float
    ms: float


class Calls:
    """The last 200,000 calls, and totals over all of them."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=_KEPT)
        self._numbers: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._most_in_flight: Counter[str] = Counter()

    def begin(self, provider: str) -> int:
        """A call has come in; its number, counted from 1 over all providers."""
        self._in_flight[provider] += 1
        self._most_in_flight[provider] = max(self._most_in_flight[provider], self._in_flight[provider])
        self._numbers[provider] += 1
        return self._numbers.total()

    def end(self, call: Call) -> None:
        """The call is over."""
        self._in_flight[call.provider] -= 1
        self._calls.append(call)

    def select(self, provider: str = "", path: str = "", after: int = 0) -> Iterator[Call]:
        """The calls kept, oldest first: of one provider, with ``path`` as a part of their path, after a number."""
        return (
            call
            for call in self._calls
            if call.number > after and provider in {"", call.provider} and path in call.path
        )

    def report(self, provider: str = "", path: str = "", after: int = 0, limit: int = 10_000) -> dict[str, Any]:
        """What ``GET /calls`` answers: totals, counts per path and outcome, and the newest ``limit`` calls."""
        chosen = list(self.select(provider, path, after))
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for call in chosen:
            counts[call.path][call.outcome] += 1
            outcomes[call.provider][call.outcome] += 1
        return {
            "seen": dict(self._numbers),
            "most_in_flight": dict(self._most_in_flight),
            "total": len(chosen),
            "outcomes": outcomes,
            "counts": counts,
            "calls": [msgspec.to_builtins(call) for call in (chosen[-limit:] if limit else [])],
        }

    def clear(self) -> None:
        """Forget the calls; numbers go on."""
        self._calls.clear()
        self._most_in_flight.clear()
