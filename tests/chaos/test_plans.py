"""A run can be repeated: what is sent and what is done to the installation follow from the seed."""

import random

from ops.chaos.scenarios.processes import WORKERS, worker_kills
from ops.chaos.traffic import intents


def chance(seed: int) -> random.Random:
    """As a run makes it."""
    return random.Random(f"fault x/{seed}")  # noqa: S311 - a run must be repeatable


def test_the_same_seed_gives_the_same_kills_and_the_same_deliveries() -> None:
    """Whatever happens to run at the moment: the plan is made before the first act."""
    first, second = [(worker_kills(chance(7)), [*intents("x/7", 50)]) for _ in range(2)]

    assert first == second


def test_another_seed_gives_other_kills_of_every_worker() -> None:
    """Main processes and children of the pool, of all providers."""
    plans = [worker_kills(chance(seed)) for seed in range(20)]

    assert len({tuple(plan) for plan in plans}) == len(plans)
    assert {(name, child) for name in WORKERS for child in range(3)} == {
        (kill.name, kill.child) for plan in plans for kill in plan
    }
