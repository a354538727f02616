"""Magicline's side of the world: one studio, generated lazily, with what changed kept beside."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from ops.lab import magicline_events
from ops.lab.happening import Happening, unknown_event, unknown_thing
from ops.lab.magicline_things import CUSTOMERS, FIRST_CUSTOMER, GENERATORS, LARGEST_CUSTOMER, ZONE, Studio
from ops.lab.seeded import identifier, number


OK = 200
_DEBTORS = 23


class MagiclineWorld:
    """One studio: things by kind (record kinds of the contract, without the provider's name) and id."""

    def __init__(self, account: str, seed: int, began: datetime) -> None:
        self.studio = Studio(seed, account, 100 + number(seed, account) % 900, began)
        self._kept: dict[tuple[str, int], dict[str, Any]] = {}
        self._gone: set[tuple[str, int]] = set()
        self._lists: dict[tuple[str, int], list[int]] = {}
        self._access_disabled: set[int] = set()
        self._moved: set[int] = set()
        self._bookings: dict[tuple[str, int], set[int]] = {}
        self._happenings = 0

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────

    def events(self) -> Sequence[str]:
        """The 44 event types, and two that are seen in the wild but documented nowhere."""
        return (*magicline_events.EVENTS, *magicline_events.UNDOCUMENTED)

    def happen(self, event: str, options: Mapping[str, Any]) -> Happening:
        """One event type happens.

        Options: ``customer`` (id), ``id`` (the thing's own), ``moved`` (CUSTOMER_HOME_STUDIO_UPDATED: the customer
        leaves this studio's reach), ``customers`` (AUTOMATIC_CUSTOMER_CHECKOUT: how many, default 3).
        """
        if event not in self.events():
            raise unknown_event("magicline", event, self.events())
        self._happenings += 1
        entity, content = magicline_events.apply(self, event, options)
        uuid = identifier(self.studio.seed, self.studio.name, "event", self._happenings)
        payload: dict[str, Any] = {"timestamp": int(self.now().timestamp() * 1000), "type": event}
        if content:
            payload["content"] = content
        document = {"entityId": entity, "uuid": uuid, "payload": [payload]}
        return Happening("magicline", self.studio.name, event, document, identity=uuid)

    @property
    def happenings(self) -> int:
        """How many things have happened: what makes the next change differ from the last."""
        return self._happenings

    def now(self) -> datetime:
        """The world's time: it began at a given time and every happening takes a millisecond."""
        return self.studio.began + timedelta(milliseconds=self._happenings)

    def some_customer(self) -> int:
        """A customer who is there; which one follows from the seed and the number of happenings."""
        for attempt in range(100):
            bits = number(self.studio.seed, self.studio.name, "some", self._happenings, attempt)
            which = FIRST_CUSTOMER + bits % CUSTOMERS
            if self.get("customer", which) is not None and which not in self._access_disabled | self._moved:
                return which
        return self.new("customer")

    def new(self, kind: str) -> int:
        """A fresh id, far from the generated ones (customers stay below the largest that exists)."""
        return (2_000_000 if kind == "customer" else 500_000) + self._happenings

    # ── what there is ─────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, kind: str, which: int) -> dict[str, Any] | None:
        """One thing as the API tells it, or None when it is not there."""
        key = (kind, which)
        if key in self._gone or kind not in GENERATORS or (kind == "customer" and not 0 < which <= LARGEST_CUSTOMER):
            return None
        return dict(self._kept[key]) if key in self._kept else GENERATORS[kind](self.studio, which)

    def put(self, kind: str, which: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change fields of one thing (generated first if need be, and back from the dead)."""
        self._gone.discard((kind, which))
        value = {**(self.get(kind, which) or {}), **changes}
        self._kept[kind, which] = value
        if kind.endswith("-booking"):
            self._bookings.setdefault((kind, value["customerId"]), set()).add(which)
        return value

    def remove(self, kind: str, which: int) -> None:
        """The thing is gone: its read answers 404."""
        self._gone.add((kind, which))
        self._kept.pop((kind, which), None)

    def disable_access(self, customer: int) -> None:
        """The customer may no longer be asked for."""
        self._access_disabled.add(customer)

    def move(self, customer: int) -> None:
        """The customer belongs to another studio; only the cross-studio read still finds them."""
        self._moved.add(customer)

    def reachable(self, customer: int) -> int:
        """The HTTP status that a read of this customer gets: 200, 403 (access disabled) or 404."""
        if customer in self._access_disabled:
            return 403
        return 404 if customer in self._moved or self.get("customer", customer) is None else 200

    def ids(self, kind: str, owner: int) -> list[int]:
        """The ids of a list: ``contract`` and ``checkin`` by customer, ``device`` of the studio, ``debtor`` by run."""
        if (kind, owner) not in self._lists:
            bits = number(self.studio.seed, self.studio.name, kind, owner)
            self._lists[kind, owner] = {
                "contract": [owner * 100 + place for place in range(1, 2 + bits % 3)],
                "checkin": [owner * 1000 + place for place in range(27 if bits % 4 == 0 else bits % 8, 0, -1)],
                "device": [*range(1, 6)],
                "debtor": [FIRST_CUSTOMER + (bits + place) % CUSTOMERS for place in range(_DEBTORS)],
            }[kind]
        return self._lists[kind, owner]

    def contracts(self, customer: int) -> list[dict[str, Any]]:
        """A customer's contracts."""
        return self._all("contract", customer)

    def customers(self) -> list[dict[str, Any]]:
        """The customers who may be asked for, by id: the generated ones, and all who came in later."""
        created = {which for kind, which in self._kept if kind == "customer"}
        everybody = sorted({*range(FIRST_CUSTOMER, FIRST_CUSTOMER + CUSTOMERS), *created})
        return [item for which in everybody if self.reachable(which) == OK and (item := self.get("customer", which))]

    def bookings(self, kind: str, customer: int) -> list[dict[str, Any]]:
        """A customer's bookings of which something was ever heard."""
        which = sorted(self._bookings.get((kind, customer), ()))
        return [item for each in which if (item := self.get(kind, each)) is not None]

    def devices(self) -> list[dict[str, Any]]:
        """The studio's devices."""
        return self._all("device", 0)

    def debtors(self, run: int) -> list[dict[str, Any]]:
        """The debtors of a debt collection run."""
        return self._all("debtor", run)

    def checkins(self, customer: int, first: datetime, last: datetime) -> list[dict[str, Any]]:
        """A customer's check-ins between two times, oldest first."""
        return [
            item
            for item in self._all("checkin", customer)
            if first <= datetime.fromisoformat(item["checkInDateTime"]) <= last
        ]

    def thing(self, kind: str, external_id: str) -> bytes | None:
        """One thing as the API tells it; kinds that belong to the whole account take any id."""
        which = int(external_id) if external_id.isdecimal() else self.studio.id
        value = self.get(kind, which)
        if value is None:
            return None
        return orjson.dumps(value["items"] if set(value) == {"items"} else value)

    def change(self, kind: str, external_id: str, changes: Mapping[str, Any]) -> None:
        """Change fields of one thing; lists (preferences, additional fields) are under ``items``."""
        which = int(external_id) if external_id.isdecimal() else self.studio.id
        if kind not in GENERATORS:
            raise unknown_thing(kind, external_id)
        if changes.get("gone"):
            self.remove(kind, which)
        else:
            self.put(kind, which, changes)

    def local_date(self, text: str) -> datetime:
        """Midnight of a query's date (``2026-01-31``) in the studio's zone. Raises ValueError."""
        return datetime.fromisoformat(text[:10]).replace(tzinfo=ZONE)

    def _all(self, kind: str, owner: int) -> list[dict[str, Any]]:
        return [item for which in self.ids(kind, owner) if (item := self.get(kind, which)) is not None]
