"""What a provider tells the rest of the house.

A provider does no I/O. Its ``Inbound`` face tells ingress who sent a request; its ``FollowUp`` face tells workers
what to call and what an answer means. Both are pure: bytes and settings in, values out.

    receive   Unverified -> Admission                      (Inbound.authenticate)
    plan      Delivery   -> event -> Plan                  (FollowUp.read, identity, types, plan)
    fetch     Call       -> headers, Limit                 (FollowUp.credentials, limit)
    apply     Answer     -> Outcome                        (FollowUp.interpret)
    reconcile since      -> Survey, Call                   (FollowUp.surveys, repair)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

from shared.errors import Cause, NotAuthentic, Reason
from shared.providers.account import AccountSettings


# ── receive ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Unverified:
    """The head of a request as it came in. Nothing of it is trusted; only ``Inbound.authenticate`` takes it.

    Header names are lower case, in the order received, repeats kept. ``token`` is the last path segment where the
    provider's route has one, percent-encoded as it was sent.
    """

    headers: Sequence[tuple[bytes, bytes]]
    token: bytes = b""

    def one(self, name: bytes) -> bytes:
        """The only value of a header. Raises NotAuthentic when it is missing, repeated or empty."""
        values = [value for key, value in self.headers if key == name]
        if len(values) != 1 or not values[0]:
            raise NotAuthentic(
                f"the header {name.decode('latin-1')} must be there exactly once and not be empty",
                "missing-credentials",
            )
        return values[0]


class BodyCheck(Protocol):
    """A signature over the body, computed while the body streams in."""

    def update(self, chunk: bytes) -> None:
        """Take the next raw bytes of the body."""

    def finish(self) -> None:
        """Raise NotAuthentic unless the signature matches all the bytes taken."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The sender is the named account, provided that ``body_check`` (if any) passes once the body is there."""

    account: str
    body_check: BodyCheck | None = None


class Inbound(ABC):
    """How a provider's deliveries are authenticated and acknowledged. Made anew whenever its accounts change."""

    success_status: int = 200
    """The status that the provider takes for success, always with an empty body."""
    takes_token: bool = False
    """True: the route is ``/webhooks/<provider>/{token}``; False: ``/webhooks/<provider>``."""
    secret_headers: frozenset[bytes] = frozenset()
    """Lower-case names of headers that carry credentials; their values are never kept."""
    max_body_bytes: int = 1024 * 1024
    body_seconds: float = 10.0

    @abstractmethod
    def authenticate(self, request: Unverified) -> Admission:
        """The account that sent this. Raises NotAuthentic; compares keys as bytes, in constant time."""

    def check(self, request: Unverified, body: bytes) -> str:
        """The account that sent this whole delivery. Raises NotAuthentic."""
        admission = self.authenticate(request)
        if admission.body_check:
            admission.body_check.update(body)
            admission.body_check.finish()
        return admission.account

    def cause(self, request: Unverified, body: bytes) -> Cause | None:
        """Why this delivery is not authentic, for people; None: it is (by now)."""
        try:
            self.check(request, body)
        except NotAuthentic as error:
            return error.cause
        return None

    def take_used_keys(self) -> Collection[tuple[str, bytes]]:
        """Accounts and the key that proved a delivery of theirs, since this was asked last: for a rotation."""
        return set()

    def learned(self) -> Mapping[str, str]:
        """What genuine deliveries have taught about accounts: account name to a phrase for the log."""
        return {}


# ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Delivery:
    """An authentic delivery, read back from the store: the raw body byte for byte and its content type."""

    event_id: UUID
    account: str
    body: bytes
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One GET at the account's own host.

    ``path`` begins with a slash and carries its query. ``purpose`` is the provider's own word for what the answer is;
    ``context`` (JSON values only) is what ``interpret`` needs to know besides. Events whose calls have the same
    ``resource`` share one pending fetch, so everything that changes the meaning of the answer must show in it.
    """

    path: str
    purpose: str
    context: Mapping[str, Any] = field(default_factory=dict)
    pick: str = ""
    """What is picked out of a shared answer (an id in a list); part of ``resource``."""
    missing: Literal["retry", "tombstone"] = "retry"
    """What 404 means: not there yet (5 times within minutes, then failed), or gone as announced (a tombstone, done)."""
    completes: bool = False
    """The answer completes what earlier calls of the chain brought: its records count as read when the chain began."""
    page: int = 1
    """Which page of a chain this is; the engine ends chains past its bound as ``endless-pages``."""

    @property
    def resource(self) -> str:
        """The coalescing key: same path, same pick, same meaning of 404."""
        return "#".join(filter(None, (self.path, self.pick, "gone" if self.missing == "tombstone" else "")))


class Record(NamedTuple):
    """The state of one thing at the provider.

    ``data`` is JSON text (an object) exactly as the provider sent it, so that numbers keep their digits; None with
    ``deleted`` is a tombstone that keeps whatever data was known. ``once`` marks a record whose first sight makes one
    change and that never changes again (imin's update notifications).
    """

    kind: str
    external_id: str
    data: str | None
    deleted: bool = False
    once: bool = False
    sealed: bytes | None = None
    """The private members, sealed; ``data`` then holds digests in their place. Providers leave it alone."""
    owner: str = ""
    """Of a ``once`` record: to whom it was shown (a customer). The first sight of each owner makes a change."""


class Members(NamedTuple):
    """Members of an object that are private: the named ones, or (``others``) all but the named ones."""

    names: frozenset[str]
    others: bool = False

    def private(self, name: str) -> bool:
        """Whether this member is."""
        return (name in self.names) is not self.others


class Privacy(NamedTuple):
    """What of a provider's data is sealed also inside records and the calls that wait to be made.

    ``records``: by kind. ``context``: members of a call's context. ``redelivered_days``: how long the provider sends a
    delivery again; nothing that tells it from a new one is removed before. ``images``: its deliveries bring blobs.
    """

    records: Mapping[str, Members] = {}
    context: frozenset[str] = frozenset()
    redelivered_days: int = 1
    images: bool = False


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes to keep in the blob store under ``key``, sealed, before the record that refers to them is written."""

    key: str
    content: bytes | memoryview
    content_type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one event asks for: calls to make, records that the delivery itself carries, blobs that those refer to."""

    calls: Sequence[Call] = ()
    records: Sequence[Record] = ()
    blobs: Sequence[Blob] = ()


_ABOUT_WHO_ASKS = frozenset({401, 402})
_ABOUT_WHAT = 403


class Refusal(NamedTuple):
    """What an answer of 401, 402 or 403 is about; ``detail`` is the sentence for people.

    ``account``: nothing may be asked for until the account is mended. ``one``: this thing, user or endpoint alone; the
    calls of the account go on, and this one ends with ``reason`` after a few tries.
    """

    about: Literal["account", "one"]
    reason: Reason | Literal["account-refused", "refused"]
    detail: str = ""


# ── fetch and apply ───────────────────────────────────────────────────────────────────────────────────────────────


class Limit(NamedTuple):
    """How often an account may be called: ``calls`` in any ``seconds``, counted over everything of one ``scope``.

    ``penalty_seconds`` is how long to keep away after a 429 that has no Retry-After. ``window``: as the provider
    counts; a ``fixed`` one begins with its first call, a ``sliding`` one is any such time, which is safe for both.
    """

    scope: str
    calls: int
    seconds: float
    penalty_seconds: float
    window: Literal["sliding", "fixed"] = "sliding"


class Probe(NamedTuple):
    """The cheapest read that tells whether credentials are accepted; a status of ``right`` shows that they are.

    ``limit``: the one that it counts for, where the provider publishes one for everything.
    """

    method: Literal["GET", "HEAD"]
    path: str
    right: frozenset[int] = frozenset({200})
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A POST whose answer opens a session; calls with the same ``session`` share it until it was idle for so long."""

    session: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer with a 2xx status; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type without parameters, lower case; empty when none was sent."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class SetAside(NamedTuple):
    """One row of an answer that cannot be read or stored: ``what`` names it, ``why`` says what is wrong with it.

    Neither holds a value of the row, which may be personal.
    """

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer means: records to upsert, further pages to fetch, blobs that the records refer to.

    ``set_aside`` are the rows of which it does not know what they mean; their neighbours are records.
    """

    records: Sequence[Record] = ()
    next: Sequence[Call] = ()
    blobs: Sequence[Blob] = ()
    set_aside: Sequence[SetAside] = ()


# ── reconcile ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _none_known(external_id: str, members: Mapping[str, Any]) -> Sequence[Call]:
    del external_id, members
    return ()


@dataclass(frozen=True, slots=True)
class Survey:
    """One walk over what a provider holds, to find what no delivery told of.

    Either the pages that begin with ``first`` and that answers continue, or, for each known thing of the kind ``of``,
    what ``calls`` makes of its external id and those of its members that ``keeps`` names. Answers are read by
    ``FollowUp.interpret``, as always. ``said`` tells people what this walk cannot show.
    """

    name: str
    first: Sequence[Call] = ()
    of: str = ""
    calls: Callable[[str, Mapping[str, Any]], Sequence[Call]] = _none_known
    keeps: Sequence[str] = ()
    """Members of the things listed here that a later survey of the same walk wants to know."""
    complete: str = ""
    """The kind of which the list shows everything: a record that it lacks is asked for by its id (``by_id``)."""
    by_id: Callable[[str, Mapping[str, Any]], Sequence[Call]] = _none_known
    whole: bool = True
    """Things are shown with all their members; False: a member that is not shown says nothing."""
    ignored: frozenset[str] = frozenset()
    """Members that change with every answer (an address that expires)."""
    said: str = ""


AccountT = TypeVar("AccountT", bound=AccountSettings)
EventT = TypeVar("EventT")


class FollowUp(ABC, Generic[AccountT, EventT]):
    """What a provider's webhooks ask for. Stateless; every method is pure."""

    calls_at_once: int | None = None
    """How many calls of one account a process has under way at most; None: as many as it has places for.

    For answers of thousands of records: a process holds few of them in memory, and leaves the others to its neighbours.
    """

    @abstractmethod
    def read(self, delivery: Delivery, account: AccountT) -> EventT:
        """Parse the body. Raises Unreadable: ``empty``, ``not-json``, ``wrong-shape``, ``missing-part`` ..."""

    @abstractmethod
    def types(self, event: EventT) -> Sequence[str]:
        """The provider's own names of what happened, for people and filters; known before ``plan`` may refuse."""

    @abstractmethod
    def identity(self, event: EventT) -> str | None:
        """What makes two deliveries the same within (provider, account); None: every delivery counts."""

    @abstractmethod
    def plan(self, event: EventT, delivery: Delivery, account: AccountT) -> Plan:
        """What to do about it. Raises Unreadable: ``unknown-type``, ``untrusted-url``."""

    @abstractmethod
    def credentials(self, call: Call, account: AccountT) -> dict[str, str]:
        """The headers that authenticate this call. Asked for just before sending, never stored."""

    @abstractmethod
    def limit(self, call: Call, account: AccountT) -> Limit | None:
        """The provider's published limit for this call; None where none is known. Settings may override it."""

    @abstractmethod
    def interpret(self, call: Call, answer: Answer, account: AccountT) -> Outcome:
        """Turn a 2xx answer into records and next pages. Raises BrokenAnswer or RefusedAnswer."""

    def essence(self, call: Call, answer: Answer) -> memoryview | None:
        """An answer without what is another each time (the request's id); None where none comes twice, or is large.

        What has the same essence means the same: one that comes again is not interpreted again.
        """
        del call, answer
        return None

    def probe(self) -> Probe | None:
        """How to test an account's credentials; None where no cheap read is known."""
        return None

    def read_probe(self, answer: Answer) -> None:
        """Read what an answer to ``probe`` says besides a status of ``right``. Raises RefusedAnswer, BrokenAnswer."""
        del answer

    def login(self, call: Call, account: AccountT) -> Login | None:
        """The session that this call needs; None where the account's keys are enough."""
        del call, account
        return None

    def session_credentials(self, answer: Answer) -> dict[str, str]:
        """The headers that authenticate calls in the session that ``answer`` opened. Raises BrokenAnswer."""
        del answer
        return {}

    def instead(self, call: Call, status: int) -> Sequence[Call]:
        """Other calls to make instead of one that was refused with 403 or 404; none: the refusal stands."""
        del call, status
        return ()

    def refusal(self, call: Call, status: int, said: str) -> Refusal | None:
        """What a refusal is about; ``said`` is the beginning of the answer's body. None: the answer is no refusal.

        By itself 401 and 402 are about who asks, and 403 about what was asked for (RFC 9110, 15.5.2 to 15.5.4).
        """
        del call, said
        if status in _ABOUT_WHO_ASKS:
            return Refusal("account", "account-refused")
        return Refusal("one", "refused") if status == _ABOUT_WHAT else None

    def surveys(self, account: AccountT, since: datetime | None) -> Sequence[Survey]:
        """How what the provider holds can be gone through, in this order; none: it cannot.

        ``since`` narrows those down that the provider can narrow down; each says so itself.
        """
        del account, since
        return ()

    def repair(self, call: Call, record: Record, stored: str | None) -> Call:
        """The call that brings a record up to date that differs from what ``call`` of a survey showed.

        ``stored`` is what is known of it as JSON text, None where nothing is.
        """
        del record, stored
        return call

    def tombstones(self, call: Call) -> Sequence[Record]:
        """The records that a 404 on a call with ``missing="tombstone"`` marks as deleted."""
        del call
        return ()


@dataclass(frozen=True, slots=True)
class Provider(Generic[AccountT, EventT]):
    """One provider, put together: what the registry holds."""

    name: str
    account: type[AccountT]
    inbound: Callable[[Sequence[AccountT]], Inbound]
    follow_up: FollowUp[AccountT, EventT]
    privacy: Privacy = field(default_factory=Privacy)
