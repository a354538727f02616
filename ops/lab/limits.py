"""How often a provider lets itself be called, as it behaves when it is called more often."""

import time
from collections.abc import Callable

import msgspec

from ops.lab.happening import LabError


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``calls`` in ``seconds``; the call over it is refused, and so is everything for ``penalty_seconds`` after it.

    ``calls = 0`` lifts the limit. ``per_template``: counted for each endpoint template on its own.
    """

    calls: int
    seconds: float
    penalty_seconds: float = 0.0
    per_template: bool = False


# Magicline: 1000 a minute per endpoint, and "once over, all requests in the following minute get 429"; Paybook: five a
# second (providers.md 2.2, 3.4). imin and Authenteq publish none.
PUBLISHED = {
    "magicline": Limit(calls=1000, seconds=60.0, penalty_seconds=60.0, per_template=True),
    "paybook": Limit(calls=5, seconds=1.0),
}


class _Window:
    __slots__ = ("began", "closed_until", "count")

    def __init__(self) -> None:
        self.began = 0.0
        self.count = 0
        self.closed_until = 0.0


class Limits:
    """Counts calls by provider, account and (Magicline) endpoint template. A window begins with its first call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limits = dict(PUBLISHED)
        self._windows: dict[tuple[str, str, str], _Window] = {}

    def set(self, provider: str, limit: Limit | None) -> None:
        """Override a provider's limit; None brings the published one back. Windows begin anew."""
        if limit is not None:
            self._limits[provider] = limit
        elif provider in PUBLISHED:
            self._limits[provider] = PUBLISHED[provider]
        else:
            self._limits.pop(provider, None)
        self._windows = {key: window for key, window in self._windows.items() if key[0] != provider}

    def admits(self, provider: str, account: str, template: str) -> bool:
        """Count this call; False when it is refused with 429."""
        limit = self._limits.get(provider)
        if limit is None or not limit.calls:
            return True
        now = self._clock()
        key = (provider, account, template if limit.per_template else "")
        window = self._windows.setdefault(key, _Window())
        if now < window.closed_until:
            return False
        if not window.count or now - window.began >= limit.seconds or window.closed_until:
            window.began, window.count, window.closed_until = now, 0, 0.0
        window.count += 1
        if window.count <= limit.calls:
            return True
        if limit.penalty_seconds:
            window.closed_until = now + limit.penalty_seconds
        return False

    def shown(self) -> dict[str, object]:
        """The limits in force, as JSON values."""
        return {provider: msgspec.to_builtins(limit) for provider, limit in self._limits.items()}


def limit_from(values: object) -> Limit | None:
    """A limit from JSON; null is None. Raises LabError."""
    if values is None:
        return None
    try:
        return msgspec.convert(values, Limit)
    except msgspec.ValidationError as error:
        raise LabError(f"limit: {error}") from None
