"""What is sent follows from the seed, and asks for nothing that another event takes away."""

from datetime import UTC, datetime

from ops.chaos.traffic import intents
from ops.lab.accounts import lab_accounts
from ops.lab.server import PORTS
from ops.lab.world import World


def test_the_same_seed_sends_the_same_and_another_one_something_else() -> None:
    """A run can be repeated."""
    assert list(intents(7, 200)) == list(intents(7, 200))
    assert list(intents(7, 200)) != list(intents(8, 200))


def test_all_four_providers_send_and_some_deliveries_come_twice() -> None:
    """Also unknown types, which have to be parked."""
    found = list(intents(7, 500))

    assert {"imin", "magicline", "paybook", "authenteq"} == {intent.provider for intent in found}
    assert {"done", "parked"} == {intent.ends for intent in found}
    assert {True, False} == {intent.twice for intent in found}


def test_the_lab_can_play_every_intent() -> None:
    """Each one becomes a delivery."""
    world = World(7, lab_accounts(7, dict.fromkeys(PORTS, 1)), datetime.now(UTC))

    for intent in intents(7, 500):
        happening = world.happen(intent.provider, intent.event, intent.account, intent.options)
        assert intent.provider == happening.provider
