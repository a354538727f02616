"""Paybook Sync, today Syncfy, put together (see README.md): it lists the pages to be read after each refresh."""

from collections.abc import Sequence
from datetime import datetime

from shared.providers.interface import (
    Answer,
    Call,
    Delivery,
    FollowUp,
    Limit,
    Login,
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
from shared.providers.paybook import api, events, plan, surveys
from shared.providers.paybook.auth import PaybookInbound
from shared.providers.paybook.events import PaybookEvent
from shared.providers.paybook.settings import PaybookAccount


class PaybookFollowUp(FollowUp[PaybookAccount, PaybookEvent]):
    """Every URL that a delivery lists becomes a call of its own."""

    # One page is fetched, one read and one stored at a time; one more waits.
    calls_at_once = 4

    def read(self, delivery: Delivery, account: PaybookAccount) -> PaybookEvent:
        """The delivery in either of its forms. Raises Unreadable."""
        del account
        return events.read(delivery)

    def types(self, event: PaybookEvent) -> Sequence[str]:
        """The names as sent: ``refresh``, or in V3 ``credentials.refreshed``; one of each."""
        return tuple(dict.fromkeys(notification.type for notification in event.notifications))

    def identity(self, event: PaybookEvent) -> str:
        """The sha256 of the body in the seed's form, ``eid`` in V3."""
        return event.identity

    def plan(self, event: PaybookEvent, delivery: Delivery, account: PaybookAccount) -> Plan:
        """A call for each listed URL. Raises Unreadable."""
        del delivery, account
        return plan.plan(event)

    def credentials(self, call: Call, account: PaybookAccount) -> dict[str, str]:
        """The API key, on behalf of the event's user unless the account says otherwise."""
        return api.credentials(call, account)

    def limit(self, call: Call, account: PaybookAccount) -> Limit:
        """Five calls a second, whatever they are for."""
        del call, account
        return api.LIMIT

    def login(self, call: Call, account: PaybookAccount) -> Login | None:
        """A session of the event's user, for accounts with ``auth = "session"``."""
        return api.login(call, account)

    def session_credentials(self, answer: Answer) -> dict[str, str]:
        """The session's token. Raises BrokenAnswer or RefusedAnswer."""
        return api.session_credentials(answer.body)

    def probe(self) -> Probe:
        """The list of registered webhooks."""
        return api.PROBE

    def read_probe(self, answer: Answer) -> None:
        """The envelope may refuse under HTTP's 200. Raises RefusedAnswer, BrokenAnswer."""
        api.open_envelope(answer.body)

    def interpret(self, call: Call, answer: Answer, account: PaybookAccount) -> Outcome:
        """The rows as records, and the page behind a full last one. Raises BrokenAnswer or RefusedAnswer."""
        return plan.interpret(call, answer, account)

    def essence(self, call: Call, answer: Answer) -> memoryview | None:
        """A list's answer without the request's id."""
        return plan.essence(call, answer)

    def refusal(self, call: Call, status: int, said: str) -> Refusal | None:
        """401 with "Invalid user": that user alone."""
        return api.user_gone(status, said) or super().refusal(call, status, said)

    def surveys(self, account: PaybookAccount, since: datetime | None) -> Sequence[Survey]:
        """Credentials, accounts, transactions."""
        del account
        return surveys.surveys(since)

    def repair(self, call: Call, record: Record, stored: str | None) -> Call:
        """The page again, or the credential by its id."""
        del stored
        return surveys.repair(call, record)

    def tombstones(self, call: Call) -> Sequence[Record]:
        """The credential that reconciliation no longer found."""
        return surveys.tombstones(call)


# What is needed to find an account's owner and to read it again; its number, holder and balance are sealed.
_PLAIN_OF_ACCOUNT = frozenset({"id_account", "id_credential", "id_site", "id_user", "is_deleted", "dt_refresh"})

PROVIDER = Provider(
    name="paybook",
    account=PaybookAccount,
    inbound=PaybookInbound,
    follow_up=PaybookFollowUp(),
    privacy=Privacy(records={"paybook.account": Members(_PLAIN_OF_ACCOUNT, others=True)}),
)
