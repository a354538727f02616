"""Paybook's side of the world: credentials, each with accounts, transactions and attachments made from an index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from ops.lab import paybook_rows as rows
from ops.lab.happening import Happening, LabError, unknown_event, unknown_thing
from ops.lab.paybook_rows import Ids, Pages, Row
from ops.lab.seeded import hexadecimal, mixed, number


# The seed document's own credential and user are always there.
SEED_CREDENTIAL = "5e793889ea4c5165d46f9811"
SEED_USER = "5e751d54d0510472295413b3"
V1_EVENTS = ("refresh", "credential_create", "credential_update")
V3_EVENTS = {
    "credentials.refreshed": "refresh",
    "credentials.created": "credential_create",
    "credentials.updated": "credential_update",
}
_ENVIRONMENT = "574894bf7848066d138b4570"  # the provider's sandbox (providers.md 3.1)
_DT_BASE = 1_584_657_342


@dataclass(slots=True)
class Size:
    """How much a refresh finds: rows per credential and rows per listed page."""

    transactions: int = 120
    attachments: int = 8
    accounts: int = 2
    limit: int = 5000
    """Rows of a page, as the addresses in a delivery ask for them."""


@dataclass(slots=True)
class Credential:
    """One credential. ``rows`` holds only what differs from the generated transactions; ``revision`` counts changes."""

    ids: Ids
    seed: int
    transactions: int
    attachments: int
    rows: dict[int, Row] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    balances: dict[int, str] = field(default_factory=dict)
    revision: int = 0


class PaybookWorld:
    """What one API key sees."""

    def __init__(self, account: str, seed: int) -> None:
        self._account = account
        self._seed = seed
        self._happenings = 0
        self.pages = Pages()
        self.size = Size()
        self.attachments_raw = False
        """Whether ``/v1/attachments/export`` answers a file instead of the envelope (its form is unknown)."""
        self.credentials: dict[str, Credential] = {}
        self._create(SEED_CREDENTIAL, SEED_USER)
        for count in range(1, 5):
            self._create(hexadecimal("credential", seed, account, count))

    # ── what happens ──────────────────────────────────────────────────────────────────────────────────────────────

    def events(self) -> Sequence[str]:
        """The three events in the seed's form, and their names in the V3 envelope."""
        return (*V1_EVENTS, *V3_EVENTS)

    def happen(self, event: str, options: Mapping[str, Any]) -> Happening:
        """A credential is created, updated or refreshed.

        Options: ``credential`` (id; default: one of those there are), ``new`` and ``changed`` (transactions that a
        refresh adds and alters, default 3 and 1; 0 and 0 leave everything as it is).
        """
        if event not in self.events():
            raise unknown_event("paybook", event, self.events())
        self._happenings += 1
        plain = V3_EVENTS.get(event, event)
        credential = self._credential_for(plain, options)
        if plain == "refresh":
            self._refresh(credential, int(options.get("new", 3)), int(options.get("changed", 1)))
            endpoints = self._refresh_endpoints(credential, v3=event in V3_EVENTS)
        else:
            credential.revision += 1
            credential.fields |= {"dt_refresh": _DT_BASE + self._happenings, "code": 200}
            endpoints = {"credential": [f"/v1/credentials/{credential.ids.credential}"]}
        document = self._document(plain, credential, endpoints)
        if event in V3_EVENTS:
            document = self._enveloped(event, document)
        return Happening("paybook", self._account, event, document, identity=self._hex("job"))

    def _credential_for(self, event: str, options: Mapping[str, Any]) -> Credential:
        name = options.get("credential")
        if event == "credential_create":
            return self._create(str(name or self._hex("credential-new")))
        known = list(self.credentials)
        name = str(name or known[number(self._seed, "which", self._happenings) % min(len(known), 50)])
        if name not in self.credentials:
            raise unknown_thing("credential", name)
        return self.credentials[name]

    def _refresh(self, credential: Credential, new: int, changed: int) -> None:
        first = credential.transactions
        moment = _DT_BASE + self._happenings
        for index in range(first, first + new):
            credential.rows[index] = rows.original(credential.seed, index, moment)
        credential.transactions = first + new
        for count in range(min(changed, first)):
            index = number(self._seed, "changed", self._happenings, count) % first
            bits = mixed(number(self._seed, "amount", self._happenings, count))
            self._set_row(credential, index, {"amount": rows.amount(bits), "description": f"Card {self._happenings}"})
        credential.fields |= {"dt_refresh": moment, "dt_ready": moment}
        credential.revision += 1

    def _refresh_endpoints(self, credential: Credential, *, v3: bool) -> dict[str, list[str]]:
        name, limit = credential.ids.credential, self.size.limit
        # V3 adds the span of the refresh to each address (providers.md 3.4); here it spans everything.
        span = f"&dt_refresh_from={_DT_BASE}&dt_refresh_to={_DT_BASE + self._happenings}" if v3 else ""

        def pages(path: str, total: int) -> list[str]:
            skips = range(0, max(total, 1), limit)
            return [f"{path}?id_credential={name}&limit={limit}&skip={skip}&wbhk=1{span}" for skip in skips]

        return {
            "accounts": pages("/v1/accounts", credential.ids.accounts),
            "attachments": pages("/v1/attachments/export", credential.attachments),
            "credential": [f"/v1/credentials/{name}"],
            "transactions": pages("/v1/transactions", credential.transactions),
        }

    def _document(self, event: str, credential: Credential, endpoints: Mapping[str, Any]) -> dict[str, Any]:
        executing = {} if event == "refresh" else {"is_executing": 1}
        return {
            "endpoints": endpoints,
            "event": event,
            "id_credential": credential.ids.credential,
            "id_external": "IXS7607092R5",
            "id_job": self._hex("job-id"),
            "id_job_uuid": self._hex("job"),
            "id_site": "5da784f1f9de2a06483abec1",
            "id_site_organization": "56cf4ff5784806152c8b4567",
            "id_site_organization_type": "56cf4f5b784806cf028b4569",
            "id_user": credential.ids.user,
            **executing,
        }

    def _enveloped(self, event: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        told = {"eid": self._hex("eid"), "name": event, "at": _DT_BASE + self._happenings, "version": "3.1"}
        user = {"id_user": payload["id_user"], "id_external": None, "id_environment": _ENVIRONMENT}
        return {"rid": self._hex("rid"), "events": [{"header": {"event": told, "user": user}, "payload": payload}]}

    # ── what there is ─────────────────────────────────────────────────────────────────────────────────────────────

    def credential(self, name: str) -> dict[str, Any] | None:
        """A credential as the API tells it, or None."""
        if (found := self.credentials.get(name)) is None:
            return None
        return {
            "id_credential": name,
            "id_user": found.ids.user,
            "id_environment": _ENVIRONMENT,
            "id_external": "",
            "id_site": "5da784f1f9de2a06483abec1",
            "id_site_organization": "56cf4ff5784806152c8b4567",
            "id_site_organization_type": "56cf4f5b784806cf028b4569",
            "id_organization": "56cf4ff5784806152c8b4567",
            "is_authorized": 1,
            "is_locked": 0,
            "is_twofa": 0,
            "can_sync": 0,
            "ready_in": 15704,
            "username": "t**t",
            "code": 200,
            "keywords": None,
            "dt_authorized": 1584570942,
            "dt_execute": 1584558231,
            "dt_ready": 1584657342,
            "dt_refresh": 1584570943,
            **found.fields,
        }

    def count(self, what: str, credential: Credential) -> int:
        """How many ``transactions``, ``attachments`` or ``accounts`` a credential has."""
        return credential.ids.accounts if what == "accounts" else int(getattr(credential, what))

    def page(self, what: str, credential: Credential, skip: int, limit: int) -> bytes:
        """The rows of a list call, comma-separated JSON objects without the brackets."""
        last = min(skip + limit, self.count(what, credential))
        key = (credential.ids.credential, credential.revision, what, skip, last)
        return self.pages.get(
            key, lambda: ",".join(self._row(what, credential, index) for index in range(skip, last)).encode()
        )

    def refreshed(self, credential: Credential, first: int, last: int) -> list[int] | None:
        """The transactions last refreshed in a span of unix times; None when that is all of them."""
        if first <= _DT_BASE:
            return None
        return sorted(index for index, row in credential.rows.items() if first <= row.dt_refresh <= last)

    def row(self, what: str, credential: Credential, index: int) -> bytes:
        """The JSON of one row."""
        return self._row(what, credential, index).encode()

    def thing(self, kind: str, external_id: str) -> bytes | None:
        """``credential``, ``account``, ``transaction`` or ``attachment``, digit for digit as the API tells it."""
        if kind == "credential":
            value = self.credential(external_id)
            return orjson.dumps(value) if value else None
        found = self._find(kind, external_id)
        return self.row(f"{kind}s", *found) if found else None

    def change(self, kind: str, external_id: str, changes: Mapping[str, Any]) -> None:
        """Change a credential's fields, a transaction (``Row``'s fields; amounts as text) or an account's balance."""
        if kind == "credential" and external_id in self.credentials:
            if changes.get("gone"):
                del self.credentials[external_id]
            else:
                self.credentials[external_id].fields |= changes
            return
        if (found := self._find(kind, external_id)) is None:
            raise unknown_thing(kind, external_id)
        credential, index = found
        match kind:
            case "transaction":
                self._set_row(credential, index, changes)
            case "account" if set(changes) == {"balance"}:
                credential.balances[index] = str(changes["balance"])
            case _:
                raise LabError("a transaction's fields and an account's balance can be changed, nothing else")
        credential.revision += 1

    def resize(self, credential: str, transactions: int | None = None, attachments: int | None = None) -> None:
        """Give a credential (empty: every one, and those to come) so many rows, all as generated."""
        if credential and credential not in self.credentials:
            raise unknown_thing("credential", credential)
        if not credential:
            self.size.transactions = self.size.transactions if transactions is None else transactions
            self.size.attachments = self.size.attachments if attachments is None else attachments
        for found in [self.credentials[credential]] if credential else self.credentials.values():
            if transactions is not None:
                found.transactions = transactions
                found.rows.clear()
            found.attachments = found.attachments if attachments is None else attachments
            found.revision += 1

    def _create(self, name: str, user: str = "") -> Credential:
        def prefix(what: str) -> str:
            return hexadecimal(self._seed, self._account, name, what, digits=16)

        ids = Ids(
            credential=name,
            user=user or hexadecimal(self._seed, self._account, name, "user"),
            transaction=prefix("transaction"),
            account=prefix("account"),
            attachment=prefix("attachment"),
            accounts=self.size.accounts,
        )
        seed = number(self._seed, self._account, name)
        created = Credential(ids, seed, self.size.transactions, self.size.attachments)
        return self.credentials.setdefault(name, created)

    def _set_row(self, credential: Credential, index: int, changes: Mapping[str, Any]) -> None:
        before = credential.rows.get(index) or rows.original(credential.seed, index, _DT_BASE)
        credential.rows[index] = before.changed(changes, _DT_BASE + self._happenings)

    def _row(self, what: str, credential: Credential, index: int) -> str:
        if what == "transactions":
            row = credential.rows.get(index) or rows.original(credential.seed, index, _DT_BASE)
            return rows.transaction(credential.ids, index, row)
        if what == "attachments":
            return rows.attachment(credential.ids, index, _DT_BASE)
        balance = credential.balances.get(index) or rows.amount(mixed(credential.seed - index))
        return rows.account(credential.ids, index, balance, _DT_BASE)

    def _find(self, kind: str, external_id: str) -> tuple[Credential, int] | None:
        prefix, index = external_id[:16], external_id[16:]
        for credential in self.credentials.values():
            if prefix == getattr(credential.ids, kind, None) and len(index) == 8:  # noqa: PLR2004 - see Ids
                place = int(index, 16)
                return (credential, place) if place < self.count(f"{kind}s", credential) else None
        return None

    def _hex(self, what: str) -> str:
        return hexadecimal(self._seed, self._account, what, self._happenings)
