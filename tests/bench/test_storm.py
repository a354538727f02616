"""The order of deliveries in the storm of the fairness benchmark."""

from collections import Counter
from itertools import pairwise

from ops.bench.benchmarks.fairness import STUDIOS, TIMES, _cycle
from ops.lab.accounts import lab_accounts


def test_one_studio_sends_fifty_times_as_much_spread_between_the_others() -> None:
    """Each other studio has one delivery a cycle, never two of them in a row: the storm does not come in one gust."""
    ports = dict.fromkeys(("imin", "magicline", "paybook", "authenteq"), 40_000)
    studios = [each for each in lab_accounts(1, ports, studios=STUDIOS) if each.provider == "magicline"]

    names = [each.name for each in _cycle(studios)]

    storming, *others = [each.name for each in studios]
    assert Counter({storming: TIMES, **dict.fromkeys(others, 1)}) == Counter(names)
    assert all(storming in pair for pair in pairwise(names))
