"""Accounts whose settings have vanished: no sender is told that there are none."""

from typing import TYPE_CHECKING

import orjson


if TYPE_CHECKING:
    from tests.ingress.conftest import Ingress, Reply, Start

CUT = """
[[magicline.accounts]]
name = "studio-berlin"
webhook_keys = ["berlin-key"]
api_key = "berlin-api-key"
base_url = "https://berlin.open-api.magicline.com"
"""
KNOWN = "INSERT INTO known_accounts (provider, account) VALUES ('magicline', 'studio-hamburg'), ('imin', 'main')"
REMOVED = "UPDATE known_accounts SET removed_at = now() WHERE provider = $1 RETURNING account"


def comes_again(reply: "Reply") -> bool:
    """Whether it is told to send it again later."""
    return (503, "unavailable", "5") == (
        reply.status,
        orjson.loads(reply.body)["error"],
        reply.header("retry-after"),
    )


def magicline(ingress: "Ingress", key: str) -> "Reply":
    """A delivery of a studio."""
    return ingress.post("/webhooks/magicline", {"x-api-key": key}, b"{}")


def test_accounts_that_vanish_go_on(start_ingress: "Start", database_url: str) -> None:
    """The file away, emptied or cut: their deliveries are kept as before, and a stranger is one."""
    ingress = start_ingress(database_url=database_url)
    text = ingress.configuration.read_text(encoding="utf-8")
    told = 0
    for vanished in (None, text[: text.index("[[magicline.accounts]]")], ""):
        if vanished is None:
            ingress.configuration.unlink()
        else:
            ingress.configuration.write_text(vanished, encoding="utf-8")
        before, told = told, told + 1
        ingress.until(lambda b=before: ingress.log().count("settings have vanished") > b)  # type: ignore[misc]
        assert 200 == magicline(ingress, "hamburg-key").status
        assert 204 == ingress.imin(b"{}").status
        assert 401 == magicline(ingress, "nobody's").status
    ingress.configuration.write_text(text.replace("imin-old-key", "imin-new-key"), encoding="utf-8")
    ingress.until(lambda: 204 == ingress.post("/webhooks/imin", {"X-Api-Key": "imin-new-key"}, b"{}").status)


def test_an_ingress_that_begins_without_them_says_come_again(start_ingress: "Start", database_url: str) -> None:
    """To whoever may be one of them, until they are removed; what the file has is served."""
    ingress = start_ingress(database_url=database_url, configuration="")
    ingress.rows(KNOWN)
    ingress.configuration.write_text(CUT, encoding="utf-8")  # a new account: known ones are looked at again
    ingress.until(lambda: 200 == magicline(ingress, "berlin-key").status)

    ingress.until(lambda: comes_again(ingress.post("/webhooks/imin", {"X-Api-Key": "imin-key"}, b"{}")))
    assert comes_again(magicline(ingress, "hamburg-key"))
    assert 401 == ingress.post("/webhooks/magicline", {}, b"{}").status
    assert 404 == ingress.post("/webhooks/authenteq", {"X-CLIENT-ID": "c", "X-SIGNATURE": "0" * 64}, b"{}").status

    ingress.rows(REMOVED, "imin")
    ingress.until(lambda: 404 == ingress.post("/webhooks/imin", {"X-Api-Key": "imin-key"}, b"{}").status)
    assert comes_again(magicline(ingress, "hamburg-key"))
    ingress.rows(REMOVED, "magicline")
    ingress.until(lambda: 401 == magicline(ingress, "hamburg-key").status)
    assert 200 == magicline(ingress, "berlin-key").status


def test_an_ingress_that_could_ask_nobody_says_come_again(start_ingress: "Start", closed_port: int) -> None:
    """Without a file and without Postgres it does not know who was in force."""
    ingress = start_ingress(database_url=f"postgresql://nobody@127.0.0.1:{closed_port}/none", configuration="")
    assert comes_again(ingress.post("/webhooks/imin", {"X-Api-Key": "imin-key"}, b"{}"))
    assert 405 == ingress.get("/webhooks/imin").status
    assert 404 == ingress.post("/webhooks/nobody", {}, b"{}").status


def test_a_first_start_without_a_file_knows_that_there_is_no_account(start_ingress: "Start", database_url: str) -> None:
    """Nothing was ever in force: 404 as documented, and the file may come later."""
    ingress = start_ingress(database_url=database_url, configuration="")
    ingress.configuration.unlink()
    ingress.until(lambda: 404 == ingress.post("/webhooks/imin", {"X-Api-Key": "imin-key"}, b"{}").status)
