"""Private members lie sealed in Postgres; an application gets the whole record, and none whose key was destroyed."""

from collections.abc import Callable

import pytest

from handlers.conftest import Configure, Store, handler
from handlers.receiving import Message, Reply, receiving
from penstock import Change, on
from shared.private import seal_record
from shared.providers.interface import Record
from shared.providers.registry import PROVIDERS
from workers.hand_over.delivering import HandingOver
from workers.process import WorkerProcess


ACCOUNT = ("magicline", "berlin")
DATA = '{"id":1,"status":"MEMBER","bankAccount":{"iban":"DE89370400440532013000"}}'


def seal_the_record(process: WorkerProcess, store: Store) -> None:
    """What a worker would have stored for the customer of the only change."""
    process.run(process.may_seal(*ACCOUNT))
    privacy = PROVIDERS["magicline"].privacy
    kept = seal_record(process.keys, *ACCOUNT, privacy, Record("magicline.customer", "1", DATA))
    store.run("UPDATE records SET data = $1::jsonb, sealed = $2", kept.data, kept.sealed)


@pytest.fixture
def process(configured: Configure, store: Store) -> WorkerProcess:
    """A worker, and one change of a sealed record that waits for its handler."""
    made = configured("")
    store.change(1)
    seal_the_record(made, store)
    return made


def test_an_application_gets_the_private_members(process: WorkerProcess, store: Store) -> None:
    """The table does not hold the IBAN; the change that is handed over does."""
    got: list[Change] = []
    on("magicline.customer", name="keep", start="beginning")(got.append)
    assert "iban" not in str(store.run("SELECT data FROM records")[0]["data"])

    assert "1 handed over" == HandingOver(process).run("keep")

    assert {"bankAccount": {"iban": "DE89370400440532013000"}} == (got[0].record.model_extra or {})


def test_what_a_function_raises_is_kept_without_them(process: WorkerProcess, store: Store) -> None:
    """The error of a handler that quotes the record stays readable, but for the private value in it."""

    @on("magicline.customer", name="refuse", start="beginning")
    def refuse(change: Change) -> None:
        raise ValueError(f"no such bank: {change.record.model_extra}")

    HandingOver(process).run("refuse")

    assert "ValueError: no such bank: {'bankAccount': {'iban': '[hidden]'}}" == store.handover()["error_detail"]


def test_what_an_endpoint_answers_is_kept_without_them(configured: Configure, store: Store) -> None:
    """An error that repeats the whole message, cut off at what is read of it."""

    def repeat(message: Message) -> Reply:
        return Reply(400, body=b"not with " + message.body[message.body.find(b"bankAccount") :])

    with receiving(repeat) as app:
        process = configured(handler(app.url))
        store.change(1)
        seal_the_record(process, store)
        handing = HandingOver(process)
        handing.run("crm")
        handing.close()

        assert b"DE89370400440532013000" in app.got[0].body
    said = store.handover()["error_detail"]
    assert said.startswith('the endpoint answered 400: not with bankAccount":{"iban":"[hidden]"')


@pytest.mark.usefixtures("process")
def test_a_change_whose_key_was_destroyed_is_not_handed_over(
    configured: Callable[..., WorkerProcess], store: Store
) -> None:
    """It is as one whose change is not kept any more: told, and nobody tries again for ever."""
    got: list[object] = []
    on("magicline.customer", name="keep", start="beginning")(got.append)
    store.run("DELETE FROM data_keys")
    later = configured("")

    assert "0 handed over" == HandingOver(later).run("keep")

    assert [] == got
    assert store.handover()["state"] in {"parked", "discarded"}


def test_a_worker_that_lacks_a_master_key_discards_nothing(
    process: WorkerProcess, configured: Callable[..., WorkerProcess], store: Store
) -> None:
    """A key that is missing is not one that was destroyed: the change waits, and arrives with the right settings."""
    got: list[Change] = []
    on("magicline.customer", name="keep", start="beginning")(got.append)
    lacking = configured("[retry]\nbase_seconds = 3600.0\n")

    assert "0 handed over" == HandingOver(lacking).run("keep")

    row = store.handover()
    assert ("waiting", "sealed") == (row["state"], row["error_reason"])
    assert "PENSTOCK_ENCRYPTION_KEYS" in row["error_detail"]
    assert [] == got
    store.due()
    assert "1 handed over" == HandingOver(process).run("keep")
    assert 1 == len(got)


@pytest.mark.parametrize("damage", ["sealed || '\\x00'", "substring(sealed FOR 40)", "'\\x09'", "''"])
def test_a_record_that_was_altered_is_told_of_and_not_discarded(
    process: WorkerProcess, store: Store, damage: str
) -> None:
    """It waits and is parked in the end: somebody may restore it."""
    on("magicline.customer", name="keep", start="beginning")(lambda _: None)
    store.run(f"UPDATE records SET sealed = {damage}")  # noqa: S608 - one of the four above

    assert "0 handed over" == HandingOver(process).run("keep")

    row = store.handover()
    assert ("waiting", "sealed", 1) == (row["state"], row["error_reason"], row["attempts"])
