"""Acme, put together (see README.md): a provider that does not exist, for the test that adds a fifth one."""

from collections.abc import Sequence

from shared.providers.acme import api, events, plan
from shared.providers.acme.auth import AcmeInbound
from shared.providers.acme.events import AcmeEvent
from shared.providers.acme.settings import AcmeAccount
from shared.providers.interface import Answer, Call, Delivery, FollowUp, Limit, Outcome, Plan, Provider


class AcmeFollowUp(FollowUp[AcmeAccount, AcmeEvent]):
    """One call for every delivery."""

    def read(self, delivery: Delivery, account: AcmeAccount) -> AcmeEvent:
        """What happened, and to which gadget."""
        del account
        return events.read(delivery)

    def types(self, event: AcmeEvent) -> Sequence[str]:
        """The body's ``type``."""
        return (event.type,)

    def identity(self, event: AcmeEvent) -> str | None:
        """The delivery's own number."""
        return event.delivery

    def plan(self, event: AcmeEvent, delivery: Delivery, account: AcmeAccount) -> Plan:
        """Get the gadget."""
        del delivery, account
        return plan.plan(event)

    def credentials(self, call: Call, account: AcmeAccount) -> dict[str, str]:
        """The shop's API key."""
        del call
        return api.credentials(account)

    def limit(self, call: Call, account: AcmeAccount) -> Limit | None:
        """Ten calls a second, whatever they are for."""
        del call, account
        return api.LIMIT

    def interpret(self, call: Call, answer: Answer, account: AcmeAccount) -> Outcome:
        """The gadget's record."""
        del account
        return plan.interpret(call, answer)


PROVIDER = Provider(name="acme", account=AcmeAccount, inbound=AcmeInbound, follow_up=AcmeFollowUp())
