"""What reconciliation can go through at Paybook: credentials, then each one's accounts and transactions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from shared.providers.interface import Call, Record, Survey


_CREDENTIAL = "paybook.credential"
_PAGE = 1000
"""Rows of a page: deliveries ask for 5000, but a smaller page is a smaller repair."""


def surveys(since: datetime | None) -> Sequence[Survey]:
    """Credentials, accounts, and the transactions that were refreshed since."""
    span = f"&dt_refresh_from={int(since.timestamp())}" if since else ""
    return (
        Survey(
            name="credentials",
            first=(Call("/v1/credentials", "credentials"),),
            keeps=("id_user",),
            complete=_CREDENTIAL,
            by_id=_credential,
        ),
        Survey(name="accounts", of=_CREDENTIAL, keeps=("id_user",), calls=_pages("accounts", "")),
        Survey(
            name="transactions",
            of=_CREDENTIAL,
            keeps=("id_user",),
            calls=_pages("transactions", span),
            said=f"transactions refreshed since {since:%Y-%m-%d %H:%M} UTC" if since else "",
        ),
    )


def repair(call: Call, record: Record) -> Call:
    """The page itself again, and no page behind it; a credential by its id."""
    id_user = str(call.context.get("id_user") or "")
    if call.purpose == "credentials":
        return _credential(record.external_id, {"id_user": id_user})[0]
    context = {name: value for name, value in call.context.items() if name == "id_user"}
    return replace(call, context={**context, "last": False}, pick=id_user, page=1)


def tombstones(call: Call) -> Sequence[Record]:
    """The credential that is no longer there."""
    external_id = call.context.get("external_id")
    return (Record(_CREDENTIAL, str(external_id), None, deleted=True),) if external_id else ()


def _credential(external_id: str, members: Mapping[str, Any]) -> Sequence[Call]:
    path = f"/v1/credentials/{external_id}"
    context = {**_on_behalf(members), "external_id": external_id}
    return (Call(path, "credentials", context, pick=_user(members), missing="tombstone"),)


def _pages(resource: str, span: str) -> Callable[[str, Mapping[str, Any]], Sequence[Call]]:
    def calls(external_id: str, members: Mapping[str, Any]) -> Sequence[Call]:
        path = f"/v1/{resource}?id_credential={external_id}&limit={_PAGE}&skip=0{span}"
        pick = ",".join(filter(None, (_user(members), "last")))
        return (Call(path, resource, {**_on_behalf(members), "last": True}, pick=pick),)

    return calls


def _user(members: Mapping[str, Any]) -> str:
    user = members.get("id_user")
    return user if isinstance(user, str) else ""


def _on_behalf(members: Mapping[str, Any]) -> dict[str, Any]:
    return {"id_user": user} if (user := _user(members)) else {}
