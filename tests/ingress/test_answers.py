"""Every answer of the contract, and the order in which the checks are made."""

from typing import TYPE_CHECKING

import orjson
import pytest


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Start

TOKEN = "paybook-token-0123456789"
SIGNATURE = "0" * 64


@pytest.mark.parametrize(
    ("path", "headers", "status", "account"),
    [
        ("/webhooks/imin", {"X-Api-Key": "imin-key"}, 204, "main"),
        ("/webhooks/imin", {"X-Api-Key": "imin-old-key"}, 204, "main"),
        ("/webhooks/magicline", {"x-api-key": "berlin-key"}, 200, "studio-berlin"),
        ("/webhooks/magicline", {"X-API-KEY": "hamburg-key"}, 200, "studio-hamburg"),
        (f"/webhooks/paybook/{TOKEN}", {"X-Hook-Secret": "hook-secret"}, 200, "main"),
        (f"/webhooks/paybook/{TOKEN}?a=b", {"X-Hook-Secret": "hook-secret"}, 200, "main"),
    ],
)
def test_an_authentic_delivery_gets_its_providers_success(
    ingress: "Ingress", path: str, headers: dict[str, str], status: int, account: str
) -> None:
    """The provider's own success status, an empty body, and the receipt of an event that is there."""
    reply = ingress.post(path, headers, b"{}")
    assert (status, b"") == (reply.status, reply.body)
    assert "postgres" == reply.header("x-penstock-durability")
    row = ingress.event(reply)
    assert (path.split("/")[2], account, "received", "postgres") == (
        row["provider"],
        row["account"],
        row["state"],
        row["durability"],
    )


def test_a_signed_delivery_of_authenteq_is_acknowledged_with_exactly_200(ingress: "Ingress") -> None:
    """Any other status would make Authenteq try for a week."""
    reply = ingress.authenteq(b"--x--")
    assert (200, b"") == (reply.status, reply.body)
    assert "authenteq" == ingress.event(reply)["provider"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/webhooks/imin", []),
        ("/webhooks/imin", [("X-Api-Key", "")]),
        ("/webhooks/imin", [("X-Api-Key", "wrong")]),
        ("/webhooks/imin", [("X-Api-Key", "imin-key"), ("X-Api-Key", "imin-key")]),
        ("/webhooks/imin", [("X-Api-Key", "imin-kéy")]),
        ("/webhooks/imin", [("X-Api-Key", "imin-key\xff")]),
        ("/webhooks/imin", [("X-Api-Key", "imin-api-key")]),
        ("/webhooks/imin", [("X-Api-Key", "berlin-key")]),
        ("/webhooks/imin", [("X-Api-Key", "imin-key" * 1000)]),
        ("/webhooks/magicline", [("X-Api-Key", "imin-key")]),
        ("/webhooks/paybook/wrong", [("X-Hook-Secret", "hook-secret")]),
        ("/webhooks/paybook/%00%ff", [("X-Hook-Secret", "hook-secret")]),
        (f"/webhooks/paybook/{TOKEN}", []),
        (f"/webhooks/paybook/{TOKEN}", [("X-Hook-Secret", "wrong")]),
        (f"/webhooks/paybook/{TOKEN}", [("X-Hook-Secret", "hook-secrét")]),
        ("/webhooks/authenteq", []),
        ("/webhooks/authenteq", [("X-Client-Id", "client-1")]),
        ("/webhooks/authenteq", [("X-Client-Id", "client-1"), ("X-Signature", SIGNATURE)]),
        ("/webhooks/authenteq", [("X-Client-Id", "client-1"), ("X-Signature", "short")]),
        ("/webhooks/authenteq", [("X-Client-Id", "client-1"), ("X-Signature", "é" * 64)]),
        ("/webhooks/authenteq", [("X-Client-Id", "cliént"), ("X-Signature", SIGNATURE)]),
    ],
)
def test_wrong_credentials_get_401_and_leave_nothing(
    ingress: "Ingress", path: str, headers: list[tuple[str, str]]
) -> None:
    """Missing, empty, wrong, repeated, malformed and non-ASCII credentials are all the same plain refusal."""
    before = ingress.count()
    reply = ingress.post(path, headers, b"{}")
    assert (401, "unauthorized") == (reply.status, orjson.loads(reply.body)["error"])
    assert "application/json" == reply.header("content-type")
    assert before == ingress.count()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/webhooks",
        "/webhooks/",
        "/webhooks/unknown",
        "/webhooks/imin/",
        "/webhooks/imin/extra",
        "/webhooks/paybook",
        "/webhooks/paybook/",
        "/webhooks/paybook/a/b",
        "/metrics",
        "/health",
        "/health/live/",
    ],
)
def test_unknown_routes_get_404(ingress: "Ingress", path: str) -> None:
    """Whatever is not in the contract is not there, for any method."""
    for reply in (ingress.post(path, {"X-Api-Key": "imin-key"}, b"{}"), ingress.get(path)):
        assert (404, "not-found") == (reply.status, orjson.loads(reply.body)["error"])


@pytest.mark.parametrize("path", ["/webhooks/imin", f"/webhooks/paybook/{TOKEN}", "/webhooks/authenteq"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_get_405(ingress: "Ingress", path: str, method: str) -> None:
    """The method is checked before the credentials."""
    reply = ingress.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (405, "POST") == (reply.status, reply.header("allow"))
    assert "method-not-allowed" == orjson.loads(reply.body)["error"]


def test_health_routes_take_get_alone(ingress: "Ingress") -> None:
    """POST to a health route is 405 as well."""
    assert 405 == ingress.post("/health/live").status


def test_a_provider_without_accounts_gets_404_after_405(start_ingress: "Start") -> None:
    """A known provider that has no account is not there; its method is checked first."""
    ingress = start_ingress(configuration='[settings]\nremoval = "file"\n')
    assert 405 == ingress.get("/webhooks/imin").status
    reply = ingress.post("/webhooks/imin", {"X-Api-Key": "imin-key"}, b"{}")
    assert (404, "not-found") == (reply.status, orjson.loads(reply.body)["error"])


def test_no_answer_names_the_server(ingress: "Ingress") -> None:
    """What serves is nobody's business."""
    assert ingress.get("/health/live").header("server") is None


def test_accounts_change_without_a_restart(start_ingress: "Start") -> None:
    """A key that is added is taken within five seconds, and one that is removed is refused."""
    ingress = start_ingress()
    text = ingress.configuration.read_text(encoding="utf-8")
    assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "imin-new-key"}, b"{}").status
    ingress.configuration.write_text(text.replace("imin-old-key", "imin-new-key"), encoding="utf-8")
    ingress.until(lambda: ingress.post("/webhooks/imin", {"X-Api-Key": "imin-new-key"}, b"{}").status == 204)
    assert 401 == ingress.post("/webhooks/imin", {"X-Api-Key": "imin-old-key"}, b"{}").status


def test_a_mistake_in_the_configuration_changes_nothing(start_ingress: "Start") -> None:
    """The old accounts stay in force, and the log says why."""
    ingress = start_ingress()
    ingress.configuration.write_text("[nonsense]", encoding="utf-8")
    ingress.until(lambda: "nonsense" in ingress.log())
    assert 204 == ingress.imin(b"{}").status
