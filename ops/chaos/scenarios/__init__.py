"""Every scenario, by name, in the order in which they are played. A new one is a function in one of these modules."""

from collections.abc import Mapping

from ops.chaos.scenario import Scenario
from ops.chaos.scenarios import both, disk, poison, postgres, processes, providers, redis


SCENARIOS: Mapping[str, Scenario] = {
    name: scenario
    for module in (processes, redis, postgres, both, disk, providers, poison)
    for name, scenario in module.BOOK.scenarios.items()
}
