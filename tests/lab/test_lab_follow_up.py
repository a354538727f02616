"""Every event that the lab sends is authentic to its provider's own code, and its follow-up finds what it needs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ops.lab.accounts import lab_accounts
from ops.lab.limits import Limit
from ops.lab.magicline_events import UNDOCUMENTED
from ops.lab.process import Lab
from ops.lab.server import PORTS
from ops.lab.world import World
from shared.configuration import read_configuration
from shared.providers.interface import Answer, Delivery, Record, Unverified
from shared.providers.registry import PROVIDERS


WITHOUT_RECORD = {"CUSTOMER_ACCESS_DISABLED", *UNDOCUMENTED}
EVERYTHING = World(1, lab_accounts(1, dict.fromkeys(PORTS, 9000)), datetime.now(UTC))


def sent() -> Iterator[tuple[str, str]]:
    """Provider and event, of all that lead to a record."""
    for provider in ("imin", "magicline", "paybook", "authenteq"):
        for event in EVERYTHING.part(provider).events():
            if event not in WITHOUT_RECORD:
                yield provider, event


@pytest.mark.parametrize(("name", "event"), list(sent()))
def test_an_event_leads_to_records(lab: Lab, tmp_path: Path, name: str, event: str) -> None:
    """Authenticated, read, planned, fetched and interpreted as Penstock does it, with the lab's own settings."""
    lab.set_limits({"paybook": Limit(calls=0, seconds=1)})
    (tmp_path / "penstock.toml").write_text(lab.config_toml())
    provider, accounts = PROVIDERS[name], read_configuration(tmp_path / "penstock.toml").accounts[name]
    told = lab.happen(name, event)
    headers = [(key.lower().encode(), value.encode()) for key, value in told.headers.items()]
    admission = provider.inbound(list(accounts.values())).authenticate(
        Unverified(headers, told.path.rsplit("/", 1)[1].encode())
    )
    if admission.body_check:
        admission.body_check.update(told.body)
        admission.body_check.finish()
    account, follow_up = accounts[admission.account], provider.follow_up
    delivery = Delivery(uuid4(), account.name, told.body, told.headers["Content-Type"])
    plan = follow_up.plan(follow_up.read(delivery, account), delivery, account)
    records: list[Record] = list(plan.records)
    calls = list(plan.calls)
    while calls:
        call = calls.pop()
        answer = httpx.get(account.base_url + call.path, headers=follow_up.credentials(call, account))
        if answer.status_code == 404 and call.missing == "tombstone":
            records += follow_up.tombstones(call)
            continue
        assert (call.path, answer.status_code) == (call.path, 200)
        outcome = follow_up.interpret(call, Answer(200, dict(answer.headers), answer.content), account)
        records += outcome.records
        calls += outcome.next
    assert records
