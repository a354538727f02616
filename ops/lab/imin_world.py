"""imin's side of the world: customer accounts, generated from the seed, with what changed kept beside."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ops.lab.happening import Happening, LabError, unknown_event, unknown_thing
from ops.lab.seeded import identifier, number, pick


# The causes that the seed lists for its one webhook (seeds/000: "This webhook will be called in the following cases").
CAUSES = (
    "customer-details-updated",
    "seller-account-disconnected",
    "access-pass-updated",
    "hidden-entitlement-changed",
    "entitlement-removed",
)
CUSTOMERS = 100_000
_KNOWN = re.compile(r"abc|c-[1-9][0-9]{0,5}")
_NOTIFICATIONS_KEPT = 20


class IminWorld:
    """The customer accounts ``c-1`` to ``c-100000`` and the seed document's ``abc``."""

    def __init__(self, account: str, seed: int, base_url: str) -> None:
        self._account = account
        self._seed = seed
        self._base_url = base_url
        self._changed: dict[str, dict[str, Any]] = {}
        self._unlinked: set[str] = set()
        self._gone: set[str] = set()
        self._happenings = 0

    def events(self) -> Sequence[str]:
        """The causes of imin's one webhook; ``CustomerAccount``, its own word, is the first of them."""
        return (*CAUSES, "CustomerAccount")

    def happen(self, event: str, options: Mapping[str, Any]) -> Happening:
        """Change one customer; options: ``customer`` (identifier), ``notify`` (default true: add a notification)."""
        if event not in self.events():
            raise unknown_event("imin", event, self.events())
        self._happenings += 1
        number_of = self._happenings
        name = str(options.get("customer") or f"c-{1 + number(self._seed, 'imin', number_of) % 500}")
        customer = self.customer(name)
        if customer is None:
            raise unknown_thing("customer-account", name)
        cause = CAUSES[0] if event == "CustomerAccount" else event
        self._apply(cause, name, customer, number_of)
        if "notifications" in customer and options.get("notify", True):
            customer["notifications"] = [*customer["notifications"], self._notification(name, cause, number_of)][
                -_NOTIFICATIONS_KEPT:
            ]
        self._changed[name] = customer
        document = {
            "@context": "https://openactive.io/",
            "@type": "CustomerAccount",
            "@id": customer["@id"],
            "identifier": name,
        }
        return Happening("imin", self._account, event, document, identity=name)

    def customer(self, name: str) -> dict[str, Any] | None:
        """The customer account as the API tells it, or None."""
        if name in self._gone or not _KNOWN.fullmatch(name) or (name != "abc" and int(name[2:]) > CUSTOMERS):
            return None
        return dict(self._changed[name]) if name in self._changed else self._generated(name)

    def linked_accounts(self, name: str) -> dict[str, Any] | None:
        """The customer's linked accounts; the shape is documented in part only (providers.md 1.3)."""
        customer = self.customer(name)
        if customer is None:
            return None
        items: list[dict[str, Any]] = []
        for seller in ("leeds", "york"):
            item: dict[str, Any] = {"@type": "Organization", "@id": f"{self._base_url}/api/v2/sellers/{seller}"}
            if seller == "york" or name in self._unlinked:
                item["imin:matchingEmailExists"] = number(name, seller) % 2 == 0
                item["potentialAction"] = [{"@type": "RegisterAction"}, {"@type": "CreateAction"}]
            items.append(item)
        return {"@context": "https://openactive.io/", "@id": f"{customer['@id']}/linked-accounts", "imin:item": items}

    def thing(self, kind: str, external_id: str) -> bytes | None:
        """``customer-account`` by its identifier, ``linked-accounts`` likewise."""
        found = {"customer-account": self.customer, "linked-accounts": self.linked_accounts}.get(kind)
        value = found(external_id) if found else None
        return orjson.dumps(value) if value is not None else None

    def change(self, kind: str, external_id: str, changes: Mapping[str, Any]) -> None:
        """Set top-level fields of a customer account; a value of None removes the field."""
        customer = self.customer(external_id)
        if kind != "customer-account" or customer is None:
            raise unknown_thing(kind, external_id)
        if changes.get("gone"):
            self._gone.add(external_id)
            return
        merged = {**customer, **changes}
        self._changed[external_id] = {key: value for key, value in merged.items() if value is not None}

    def _apply(self, cause: str, name: str, customer: dict[str, Any], count: int) -> None:
        match cause:
            case "customer-details-updated":
                customer["customer"] = {**customer["customer"], "telephone": f"+44 20 7946 {count % 10000:04d}"}
            case "access-pass-updated":
                customer["accessPass"] = {"@type": "Barcode", "text": f"PASS-{count:06d}"}
            case "hidden-entitlement-changed":
                customer["entitlement"] = _entitlement(self._seed, name, count)
            case "entitlement-removed":
                customer.pop("entitlement", None)
            case "seller-account-disconnected":
                # It does not show in the customer account; only the linked accounts tell (providers.md 1.2).
                self._unlinked.add(name)
            case _:
                raise LabError(f"imin has no cause {cause!r}")

    def _notification(self, name: str, cause: str, count: int) -> dict[str, Any]:
        which = identifier(self._seed, "notification", name, count)
        return {
            "@type": "CustomerUpdateNotification",
            "@id": f"{self._base_url}/api/v2/customer-accounts/{name}/notifications/{which}",
            "description": cause,
        }

    def _generated(self, name: str) -> dict[str, Any]:
        bits = number(self._seed, "imin", "customer", name)
        first = pick(("Ana", "Bo", "Chloé", "Dev", "Eira", "Finn", "Grace", "Hiro"), bits, "first")
        last = pick(("Field", "Mill", "Stone", "Rivers", "O'Brien", "Müller"), bits, "last")
        customer: dict[str, Any] = {
            "@context": "https://openactive.io/",
            "@type": "CustomerAccount",
            "@id": f"{self._base_url}/api/v2/customer-accounts/{name}",
            "identifier": name,
            "customer": {
                "@type": "Person",
                "email": f"{name}@example.org",
                "telephone": f"+44 20 7946 {bits % 10000:04d}",
                "givenName": first,
                "familyName": last,
                "birthDate": f"{1950 + bits % 50}-{1 + bits % 12:02d}-{1 + bits % 28:02d}",
                "gender": "https://schema.org/Female" if bits % 2 else "https://schema.org/Male",
                "imin:is13OrOver": True,
                "address": {
                    "@type": "PostalAddress",
                    "streetAddress": f"{1 + bits % 200} Mill Road",
                    "addressLocality": "Leeds",
                    "addressRegion": "West Yorkshire",
                    "postalCode": "LS1 1AA",
                    "addressCountry": "GB",
                },
            },
        }
        # Both are there only when they are set (providers.md 1.1).
        if bits % 3:
            customer["accessPass"] = {"@type": "Barcode", "text": f"PASS-{bits % 100_000:06d}"}
        if bits % 2:
            customer["entitlement"] = _entitlement(self._seed, name, 0)
        if name == "abc" or bits % 5 in {0, 1, 2}:
            customer["notifications"] = []
        return customer


def _entitlement(seed: int, name: str, count: int) -> dict[str, Any]:
    kind = identifier(seed, "entitlement", number(name, count) % 4)
    return {
        "@type": "Entitlement",
        "expires": f"{2027 + number(name, count) % 5}-12-31T00:00:00+00:00",
        # Plain `id` and `type` in here, unlike everywhere else: as in the provider's own sample (providers.md 1.1).
        "entitlementType": {
            "id": f"https://meta.imin.co/v2/lab/entitlements#{kind}",
            "type": "Concept",
            "prefLabel": "Adult Resident",
        },
    }
