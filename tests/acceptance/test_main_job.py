"""The main job from outside: what the documents' own samples lead to, on real processes."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from installation import Installation, post
from ops.lab.accounts import Account
from shared.providers.magicline.event_types import EVENT_TYPES
from support.conditions import until


DELIVERIES = Path(__file__).parents[1] / "deliveries"
MAGICLINE_KINDS = {
    "magicline.additional-fields",
    "magicline.appointment-booking",
    "magicline.checkin",
    "magicline.class-booking",
    "magicline.class-slot",
    "magicline.communication-preferences",
    "magicline.contract",
    "magicline.customer",
    "magicline.debt-collection-case",
    "magicline.debt-collection-configuration",
    "magicline.debt-collection-run",
    "magicline.device",
    "magicline.employee",
    "magicline.idle-period",
    "magicline.module-contract",
    "magicline.studio",
    "magicline.tax-export",
}
PAYBOOK_SEED = "5e793889ea4c5165d46f9811"


def sample(provider: str, name: str) -> bytes:
    """A recorded body, byte for byte."""
    return (DELIVERIES / provider / name / "body.raw").read_bytes()


def account(installation: Installation, provider: str) -> Account:
    """The lab's first account of a provider."""
    return next(each for each in installation.lab.accounts() if each.provider == provider)


def deliver(installation: Installation, provider: str, body: bytes) -> tuple[int, str]:
    """Post as the provider's document describes; the status and the receipt."""
    keys = account(installation, provider)
    path = f"/webhooks/{provider}"
    headers = {"content-type": "application/json"}
    if provider == "paybook":
        path += f"/{keys.webhook_key}"
        headers |= dict([keys.header]) if keys.header else {}
    else:
        headers["x-api-key"] = keys.webhook_key
    answer = post(installation, path, body, headers)
    return answer.status_code, answer.headers.get("x-penstock-event", "")


def in_the_lab(installation: Installation, provider: str, kind: str, external_id: str) -> Any:
    """What the lab's API holds."""
    held = installation.lab.world(provider, kind, external_id, account(installation, provider).name)
    assert held is not None
    return orjson.loads(held)


def test_the_imin_sample_becomes_the_account_that_the_api_holds(installation: Installation) -> None:
    """The document's sample (at this account's host) is answered 204 and ends as the customer account."""
    at_home = sample("imin", "customer-account__seed").replace(
        b"https://book.imin.co", account(installation, "imin").base_url.encode()
    )

    status, event = deliver(installation, "imin", at_home)

    assert 204 == status
    (row,) = installation.finished(event)
    assert ("done", ["CustomerAccount"]) == (row["state"], row["event_types"])
    assert (
        in_the_lab(installation, "imin", "customer-account", "abc")
        == (installation.records("imin.customer-account")["abc"]["data"])
    )


def test_the_imin_sample_as_printed_is_kept_and_its_foreign_host_never_called(installation: Installation) -> None:
    """Its address is not this account's: the delivery is parked, byte for byte, and no call is made."""
    body = sample("imin", "customer-account__seed")

    status, event = deliver(installation, "imin", body)

    (row,) = installation.finished(event)
    assert (204, "parked", "untrusted-url") == (status, row["state"], row["error"]["reason"])
    assert body.decode() == installation.penstock("events", "body", event)


def test_the_magicline_sample_becomes_the_customer_that_the_api_holds(installation: Installation) -> None:
    """CUSTOMER_CREATED for 7893459 is answered 200 and ends as that customer."""
    status, event = deliver(installation, "magicline", sample("magicline", "CUSTOMER_CREATED__seed"))

    assert 200 == status
    (row,) = installation.finished(event)
    assert ("done", ["CUSTOMER_CREATED"]) == (row["state"], row["event_types"])
    assert (
        in_the_lab(installation, "magicline", "customer", "7893459")
        == (installation.records("magicline.customer")["7893459"]["data"])
    )


@pytest.mark.parametrize("name", ["credential_create", "credential_update", "refresh"])
def test_the_paybook_samples_become_what_the_api_holds(installation: Installation, name: str) -> None:
    """Each of the document's three samples is answered 200; every address in it is fetched."""
    status, event = deliver(installation, "paybook", sample("paybook", f"{name}__seed"))

    assert 200 == status
    (row,) = installation.finished(event)
    assert ("done", [name]) == (row["state"], row["event_types"])
    assert (
        in_the_lab(installation, "paybook", "credential", PAYBOOK_SEED)
        == (installation.records("paybook.credential")[PAYBOOK_SEED]["data"])
    )


@pytest.mark.parametrize("document_type", ["PP", "DL", "NID"])
def test_an_authenteq_verification_becomes_a_record_with_its_images(
    installation: Installation, document_type: str
) -> None:
    """A signed multipart delivery is answered exactly 200; images become blobs, the result a record."""
    (sent,) = installation.lab.send("authenteq", document_type=document_type)

    assert [200] == [attempt["status"] for attempt in sent["attempts"]]
    (row,) = installation.finished(sent["attempts"][0]["receipt"])
    data = installation.records("authenteq.verification")[sent["identity"]]["data"]
    assert "done" == row["state"]
    assert "missing_parts" not in data
    assert {"croppedFrontImage", "faceImage", "livenessFaceImage"} <= set(data["images"])
    assert all({"blob", "content_type", "bytes", "sha256"} == set(image) for image in data["images"].values())


def test_every_magicline_event_type_ends_as_it_should(installation: Installation) -> None:
    """All 44 types of the provider's list are followed up to done, and lead to records of each kind."""
    sent = [installation.lab.send("magicline", event)[0] for event in EVENT_TYPES]

    rows = installation.finished(*(entry["attempts"][0]["receipt"] for entry in sent))
    kinds = {row["kind"] for row in installation.lines("records", "list", "--provider", "magicline", "--limit", "0")}
    assert {"done"} == {row["state"] for row in rows}, [row for row in rows if row["state"] != "done"]
    assert MAGICLINE_KINDS == kinds


def test_v3_envelopes_are_followed_up_as_the_seeds_form_is(installation: Installation) -> None:
    """The newer form of each Paybook event leads to the same follow-up."""
    events = ("credentials.created", "credentials.updated", "credentials.refreshed")
    sent = [installation.lab.send("paybook", event)[0] for event in events]

    rows = installation.finished(*(entry["attempts"][0]["receipt"] for entry in sent))

    assert {"done"} == {row["state"] for row in rows}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"{", "not-json"),
        (b"[]", "wrong-shape"),
        (b'{"entityId":1,"uuid":"u-new","payload":[{"timestamp":1,"type":"NEW_THING"}]}', "unknown-type"),
    ],
)
def test_an_authentic_body_is_kept_and_parked_whatever_it_contains(
    installation: Installation, body: bytes, reason: str
) -> None:
    """Never refused, never dropped: acknowledged, kept byte for byte, parked with a reason."""
    status, event = deliver(installation, "magicline", body)

    (row,) = installation.finished(event)
    assert (200, "parked", reason) == (status, row["state"], row["error"]["reason"])
    assert body.decode() == installation.penstock("events", "body", event)


def test_a_failed_event_goes_on_when_it_is_replayed(installation: Installation) -> None:
    """404 five times fails the event; once the thing is there, a replay brings its record."""
    body = b'{"entityId":1,"uuid":"u-replay","payload":[{"timestamp":1,"type":"EMPLOYEE_CREATED"}]}'
    installation.lab.change("magicline", "employee", "1", account(installation, "magicline").name, gone=True)
    _, event = deliver(installation, "magicline", body)
    (row,) = installation.finished(event)
    assert ("failed", 5) == (row["state"], row["attempts"])

    installation.lab.change("magicline", "employee", "1", account(installation, "magicline").name, firstname="Back")
    installation.penstock("events", "replay", event, "--reason", "the employee is back")

    until(lambda: installation.event(event)["state"] == "done", otherwise=lambda: installation.event(event))
    assert "1" in installation.records("magicline.employee")


def test_the_live_accounts_change_without_a_restart(installation: Installation) -> None:
    """An account that is removed is unknown within 5 s; what it still sent is parked, and goes on when it returns."""
    config = installation.folder / "penstock.toml"
    text = config.read_text()
    hamburg = next(each for each in installation.lab.accounts() if each.name == "studio-hamburg")
    headers = {"x-api-key": hamburg.webhook_key}
    body = b'{"entityId":1001,"uuid":"u-live","payload":[{"timestamp":1,"type":"CUSTOMER_UPDATED"}]}'
    parts = text.split("\n[[")
    removal = '\n[settings]\nremoval = "file"\n'
    config.write_text("\n[[".join(part for part in parts if "studio-hamburg" not in part) + removal)
    try:
        until(lambda: post(installation, "/webhooks/magicline", body, headers).status_code == 401)
    finally:
        config.write_text(text + removal)

    until(lambda: post(installation, "/webhooks/magicline", body, headers).status_code == 200)


def test_the_change_feed_tells_what_happened_to_a_record_in_order(installation: Installation) -> None:
    """Created, updated by name of field, deleted: each with its event, numbered upwards."""
    name = account(installation, "magicline").name

    def told(event: str) -> str:
        document = {"entityId": 8001, "uuid": f"u-feed-{event}", "payload": [{"timestamp": 1, "type": event}]}
        _, receipt = deliver(installation, "magicline", orjson.dumps(document))
        installation.finished(receipt)
        return receipt

    created = told("CUSTOMER_CREATED")
    installation.lab.change("magicline", "customer", "8001", name, email="new@example.org")
    updated, deleted = told("CUSTOMER_UPDATED"), told("CUSTOMER_DELETED")

    tail = installation.lines("changes", "tail", "--limit", "1000000")
    mine = [entry for entry in tail if entry["external_id"] == "8001"]
    assert [("created", created), ("updated", updated), ("deleted", deleted)] == [
        (entry["op"], entry["event_id"]) for entry in mine
    ]
    assert ["email"] == mine[1]["changed"]
    assert sorted(entry["seq"] for entry in tail) == [entry["seq"] for entry in tail]
