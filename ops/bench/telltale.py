"""Whether the time of a check tells how much of a key was right.

The statistic is dudect's (https://eprint.iacr.org/2016/1123): two kinds of key in random order, so that whatever else
the machine does falls on both alike; slow samples cropped; Welch's t, which stays small where there is no difference.
"""

import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from shared.errors import NotAuthentic
from shared.providers.interface import Inbound, Unverified
from shared.providers.registry import PROVIDERS


CROPPED: Final = 0.6
"""Of the samples the quickest so many are compared: what took longer was interrupted."""

LEAKS: Final = 10.0
"""dudect calls 4.5 suspicious and 10 certain."""

RINGS: Final = 101

KEY: Final = b"k" * 512
NEARLY: Final = KEY[:-1] + b"x"
NOTHING: Final = b"x" * 512

_ACCOUNTS: Final[dict[str, dict[str, Any]]] = {
    "imin": {"webhook_keys": [KEY.decode()], "api_key": "to-them", "base_url": "https://book.imin.co"},
    "magicline": {"webhook_keys": [KEY.decode()], "api_key": "to-them", "base_url": "https://a.open-api.magicline.com"},
    "paybook": {"webhook_tokens": [KEY.decode()], "api_key": "to-them", "base_url": "https://sync.paybook.com"},
    "authenteq": {"client_id": KEY.decode(), "client_secrets": ["client-secret"]},
}


def authentication(provider: str) -> Callable[[bytes], bool]:
    """What ingress does with a key: whether it is the one of this provider's account."""
    known = PROVIDERS[provider]
    accounts = [known.account.model_validate({"name": "main", **_ACCOUNTS[provider]})]
    # A wrong key's digest may happen to fall on the place of the right one's in the table of keys, which costs some
    # nanoseconds, whatever the key. Each ring of keys has digests of its own: over many that falls on both alike.
    inbounds: Iterator[Inbound] = itertools.cycle([known.inbound(accounts) for _ in range(RINGS)])

    def check(key: bytes) -> bool:
        headers = [(b"x-api-key", key), (b"x-client-id", key), (b"x-signature", b"0" * 64)]
        try:
            next(inbounds).authenticate(Unverified(headers, key))
        except NotAuthentic:
            return False
        return True

    return check


def leaking(key: bytes) -> bool:
    """A comparison that stops at the first difference: what must be found, or nothing that is found counts."""
    return all(mine == theirs for mine, theirs in zip(KEY, key, strict=True))


def statistic(check: Callable[[bytes], object], samples: int) -> float:
    """How sure it is that a key which is right but for its end takes another time than one that is all wrong."""
    order = random.Random(1)  # noqa: S311 - an order, no secret
    times: dict[bytes, list[int]] = {NEARLY: [], NOTHING: []}
    gc.disable()
    try:
        for _ in range(samples):
            key = NEARLY if order.random() < 0.5 else NOTHING  # noqa: PLR2004 - one or the other
            began = time.perf_counter_ns()
            check(key)
            times[key].append(time.perf_counter_ns() - began)
    finally:
        gc.enable()
    limit = sorted(times[NEARLY] + times[NOTHING])[int(samples * CROPPED)]
    return abs(welch(*([sample for sample in of if sample <= limit] for of in times.values())))


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Welch's t of two samples; 0 where neither varies and they are alike, without bound where they are not."""
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    apart = statistics.fmean(first) - statistics.fmean(second)
    if not spread:
        return 0.0 if not apart else float("inf")
    return apart / float(spread**0.5)
