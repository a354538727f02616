"""Magicline, put together (see README.md): it names a type and an id, and the Open API says the rest."""

from collections.abc import Sequence
from datetime import datetime

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
from shared.providers.magicline import api, events, plan, surveys
from shared.providers.magicline.auth import MagiclineInbound
from shared.providers.magicline.events import MagiclineEvent
from shared.providers.magicline.settings import MagiclineAccount


class MagiclineFollowUp(FollowUp[MagiclineAccount, MagiclineEvent]):
    """By event type, from no call to one for each customer that was checked out."""

    def read(self, delivery: Delivery, account: MagiclineAccount) -> MagiclineEvent:
        """Parse the body. Raises Unreadable: ``empty``, ``not-json`` or ``wrong-shape``."""
        del account
        return events.read(delivery)

    def types(self, event: MagiclineEvent) -> Sequence[str]:
        """The types of all entries, each once, in their order."""
        return tuple(dict.fromkeys(entry.type for entry in event.payload))

    def identity(self, event: MagiclineEvent) -> str:
        """``uuid``, which is unique to each event."""
        return event.uuid

    def plan(self, event: MagiclineEvent, delivery: Delivery, account: MagiclineAccount) -> Plan:
        """The reads of all entries. Raises Unreadable: ``unknown-type`` or ``wrong-shape``."""
        del delivery
        return plan.plan(event, account.name)

    def credentials(self, call: Call, account: MagiclineAccount) -> dict[str, str]:
        """The studio's API key."""
        del call
        return api.credentials(account)

    def limit(self, call: Call, account: MagiclineAccount) -> Limit:
        """1,000 calls a minute, counted per endpoint."""
        del account
        return api.limit(call)

    def probe(self) -> Probe:
        """A HEAD, which only checks the key."""
        return api.PROBE

    def interpret(self, call: Call, answer: Answer, account: MagiclineAccount) -> Outcome:
        """Records and the next slice. Raises BrokenAnswer or RefusedAnswer."""
        del account
        return plan.interpret(call, answer)

    def refusal(self, call: Call, status: int, said: str) -> Refusal | None:
        """403: a scope is missing."""
        return api.missing_scope(call) if status == api.FORBIDDEN else super().refusal(call, status, said)

    def instead(self, call: Call, status: int) -> Sequence[Call]:
        """The cross-studio read, for a customer who has moved."""
        return plan.instead(call, status)

    def surveys(self, account: MagiclineAccount, since: datetime | None) -> Sequence[Survey]:
        """All customers, then each one's bookings."""
        del account, since
        return surveys.SURVEYS

    def repair(self, call: Call, record: Record, stored: str | None) -> Call:
        """The read of one thing."""
        del stored
        return surveys.repair(call, record)

    def tombstones(self, call: Call) -> Sequence[Record]:
        """What an announced 404 marks as deleted."""
        return plan.tombstones(call)


PROVIDER = Provider(
    name="magicline",
    account=MagiclineAccount,
    inbound=MagiclineInbound,
    follow_up=MagiclineFollowUp(),
    privacy=Privacy(
        records={
            "magicline.customer": Members(frozenset({"bankAccount"})),
            "magicline.debt-collection-case": Members(frozenset({"id"}), others=True),
        }
    ),
)
