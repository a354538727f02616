"""imin, put together (see README.md): an OpenActive booking platform that tells of changed customer accounts."""

from collections.abc import Sequence
from datetime import datetime

from shared.providers.imin import api, events, plan, surveys
from shared.providers.imin.auth import IminInbound
from shared.providers.imin.events import IminEvent
from shared.providers.imin.settings import IminAccount
from shared.providers.interface import (
    Answer,
    Call,
    Delivery,
    FollowUp,
    Limit,
    Outcome,
    Plan,
    Probe,
    Provider,
    Record,
    Survey,
)


class IminFollowUp(FollowUp[IminAccount, IminEvent]):
    """One call for every delivery, whatever it was about."""

    def read(self, delivery: Delivery, account: IminAccount) -> IminEvent:
        """The customer account that changed."""
        del account
        return events.read(delivery)

    def types(self, event: IminEvent) -> Sequence[str]:
        """The body's ``@type``."""
        return event.types

    def identity(self, event: IminEvent) -> str | None:
        """None: imin has no identity for deliveries."""
        return events.identity(event)

    def plan(self, event: IminEvent, delivery: Delivery, account: IminAccount) -> Plan:
        """Get Customer Account."""
        del delivery
        return plan.plan(event, account)

    def credentials(self, call: Call, account: IminAccount) -> dict[str, str]:
        """The account's API key."""
        del call
        return api.credentials(account)

    def limit(self, call: Call, account: IminAccount) -> Limit | None:
        """None: imin publishes none."""
        del call, account
        return api.LIMIT

    def probe(self) -> Probe:
        """The broker's pre-agreed entitlements."""
        return api.PROBE

    def interpret(self, call: Call, answer: Answer, account: IminAccount) -> Outcome:
        """The account's record, its notifications, or the next call below it."""
        return plan.interpret(call, answer, account)

    def surveys(self, account: IminAccount, since: datetime | None) -> Sequence[Survey]:
        """The known customer accounts: there is no list."""
        del account, since
        return surveys.SURVEYS

    def repair(self, call: Call, record: Record, stored: str | None) -> Call:
        """The whole account again."""
        del record, stored
        return surveys.repair(call)

    def tombstones(self, call: Call) -> Sequence[Record]:
        """The account that reconciliation no longer found."""
        return surveys.tombstones(call)


PROVIDER = Provider(name="imin", account=IminAccount, inbound=IminInbound, follow_up=IminFollowUp())
