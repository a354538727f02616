"""Authenteq, put together (see README.md): identity verifications that carry their whole result."""

from collections.abc import Sequence
from datetime import datetime

from shared.providers.authenteq import api, events, plan, surveys
from shared.providers.authenteq.auth import AuthenteqInbound
from shared.providers.authenteq.events import AuthenteqEvent
from shared.providers.authenteq.settings import AuthenteqAccount
from shared.providers.interface import (
    Answer,
    Call,
    Delivery,
    FollowUp,
    Limit,
    Members,
    Outcome,
    Plan,
    Privacy,
    Probe,
    Provider,
    Record,
    Refusal,
    Survey,
)


class AuthenteqFollowUp(FollowUp[AuthenteqAccount, AuthenteqEvent]):
    """The delivery is the data; a call only confirms it."""

    def read(self, delivery: Delivery, account: AuthenteqAccount) -> AuthenteqEvent:
        """The result and its images."""
        return events.read(delivery, account)

    def types(self, event: AuthenteqEvent) -> Sequence[str]:
        """One type: deliveries carry no name of what happened."""
        del event
        return ("verification",)

    def identity(self, event: AuthenteqEvent) -> str | None:
        """The result's id."""
        return events.identity(event)

    def plan(self, event: AuthenteqEvent, delivery: Delivery, account: AuthenteqAccount) -> Plan:
        """The record and its images, and with ``confirm`` the export call."""
        return plan.plan(event, delivery, account)

    def credentials(self, call: Call, account: AuthenteqAccount) -> dict[str, str]:
        """Client id and secret."""
        del call
        return api.credentials(account)

    def limit(self, call: Call, account: AuthenteqAccount) -> Limit | None:
        """None: Authenteq publishes none."""
        del call, account
        return api.LIMIT

    def probe(self) -> Probe:
        """The export of a verification that does not exist."""
        return api.PROBE

    def interpret(self, call: Call, answer: Answer, account: AuthenteqAccount) -> Outcome:
        """Whether the exported result is the delivered one; for reconciliation what it says."""
        del account
        return plan.interpret(call, answer)

    def refusal(self, call: Call, status: int, said: str) -> Refusal | None:
        """403 with ``ACCOUNT_DEACTIVATED``: the client."""
        return api.deactivated(status, said) or super().refusal(call, status, said)

    def surveys(self, account: AuthenteqAccount, since: datetime | None) -> Sequence[Survey]:
        """The known verifications: there is no list."""
        del account, since
        return surveys.SURVEYS

    def repair(self, call: Call, record: Record, stored: str | None) -> Call:
        """The export, taken over into what is known."""
        return surveys.repair(call, record, stored)

    def tombstones(self, call: Call) -> Sequence[Record]:
        """The verification that reconciliation no longer found."""
        return surveys.tombstones(call)


PROVIDER = Provider(
    name="authenteq",
    account=AuthenteqAccount,
    inbound=AuthenteqInbound,
    follow_up=AuthenteqFollowUp(),
    # a verification is all about one person, but for where its images lie; beside a call waits the same data
    privacy=Privacy(
        records={plan.KIND: Members(frozenset({"id", "images"}), others=True)},
        context=frozenset({"data"}),
        redelivered_days=7,
        images=True,
    ),
)
