"""How long a refusal takes does not tell how much of a key was right.

The statistic is dudect's (https://eprint.iacr.org/2016/1123): two kinds of key in random order, so that whatever else
the machine does falls on both alike; slow samples cropped; Welch's t, which stays small where there is no difference.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from shared.errors import NotAuthentic
from shared.providers.interface import Inbound, Unverified
from shared.providers.registry import PROVIDERS


SAMPLES: Final = 20_000
CROPPED: Final = 0.6
"""Of the samples the quickest so many are compared: what took longer was interrupted."""

LEAKS: Final = 10.0
"""dudect calls 4.5 suspicious and 10 certain."""

KEY: Final = "k" * 512
NEARLY: Final = KEY[:-1] + "x"
NOTHING: Final = "x" * 512

_ACCOUNTS: Final[dict[str, dict[str, Any]]] = {
    "imin": {"webhook_keys": [KEY], "api_key": "to-them", "base_url": "https://book.imin.co"},
    "magicline": {"webhook_keys": [KEY], "api_key": "to-them", "base_url": "https://acme.open-api.magicline.com"},
    "paybook": {"webhook_tokens": [KEY], "api_key": "to-them", "base_url": "https://sync.paybook.com"},
    "authenteq": {"client_id": KEY, "client_secrets": ["client-secret"]},
}


def statistic(check: Callable[[bytes], object], nearly: bytes, nothing: bytes) -> float:
    """Welch's t between the times of the two."""
    order = random.Random(1)  # noqa: S311 - an order, no secret
    times: dict[bytes, list[int]] = {nearly: [], nothing: []}
    gc.disable()
    try:
        for _ in range(SAMPLES):
            key = nearly if order.random() < 0.5 else nothing
            began = time.perf_counter_ns()
            check(key)
            times[key].append(time.perf_counter_ns() - began)
    finally:
        gc.enable()
    limit = sorted(times[nearly] + times[nothing])[int(SAMPLES * CROPPED)]
    return _welch(*([sample for sample in of if sample < limit] for of in times.values()))


def _welch(first: Sequence[int], second: Sequence[int]) -> float:
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    return (statistics.fmean(first) - statistics.fmean(second)) / spread**0.5


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_key_that_is_right_but_for_its_end_takes_no_longer(name: str) -> None:
    """511 of 512 characters right, or none."""
    provider = PROVIDERS[name]
    account = provider.account.model_validate({"name": "main", **_ACCOUNTS[name]})
    inbound: Inbound = provider.inbound([account])

    assert abs(statistic(_quick(inbound), NEARLY.encode(), NOTHING.encode())) < LEAKS
    with pytest.raises(NotAuthentic):
        inbound.authenticate(Unverified([(b"x-api-key", NEARLY.encode())]))


def test_a_comparison_that_stops_at_the_first_difference_is_found() -> None:
    """Otherwise the test above would show nothing."""
    right = KEY.encode()

    def leaking(key: bytes) -> bool:
        return all(mine == theirs for mine, theirs in zip(right, key, strict=True))

    assert abs(statistic(leaking, NEARLY.encode(), NOTHING.encode())) > LEAKS


def _quick(inbound: Inbound) -> Callable[[bytes], None]:
    """Nothing beside the authentication itself."""

    def check(key: bytes) -> None:
        try:
            inbound.authenticate(
                Unverified([(b"x-api-key", key), (b"x-client-id", key), (b"x-signature", b"0" * 64)], key)
            )
        except NotAuthentic:
            return

    return check
