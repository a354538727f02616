"""What an application says of a change is kept in plain text, so private values that it repeats are taken out."""

from datetime import UTC, datetime

import orjson
import pytest

from shared.handlers.change import OutgoingChange
from workers.hand_over.discretion import discreet


IBAN = "DE89370400440532013000"


def change(kind: str, record: dict[str, object] | None) -> OutgoingChange:
    """A change of this record."""
    text = None if record is None else orjson.dumps(record).decode()
    provider = kind.partition(".")[0]
    return OutgoingChange("chg_1", 1, "updated", provider, "a", kind, "1", [], None, datetime.now(UTC), text)


CUSTOMER = change(
    "magicline.customer",
    {"id": 1001, "firstName": "Ada", "bankAccount": {"iban": IBAN, "bic": "COBADEFF", "mandates": [{"number": 4711}]}},
)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"wrong iban: {IBAN}", "wrong iban: [hidden]"),
        (f'{{"iban":"{IBAN}","bic":"COBADEFF"}}', '{"iban":"[hidden]","bic":"[hidden]"}'),
        ("mandate 4711 has lapsed", "mandate [hidden] has lapsed"),
        (f"wrong iban: {IBAN[:11]}", "wrong iban: [hidden]"),
        ("customer 1001, Ada, is unknown", "customer 1001, Ada, is unknown"),
        ("", ""),
    ],
)
def test_values_of_private_members_are_taken_out(said: str, kept: str) -> None:
    """Whole ones, and the beginning of one where the answer was cut off; nothing else."""
    assert kept == discreet(said, CUSTOMER)


def test_of_a_verification_everything_but_its_id_is_private() -> None:
    """Names and numbers of documents, however deep."""
    verification = change(
        "authenteq.verification",
        {"id": "v-1000", "documentData": {"surname": "Lovelace", "documentNumber": "C01X00T47"}},
    )
    said = discreet("v-1000: Lovelace has no C01X00T47", verification)
    assert "v-1000: [hidden] has no [hidden]" == said


def test_a_kind_without_private_members_and_a_deleted_record_are_left_alone() -> None:
    """There is nothing to take out."""
    assert f"about {IBAN}" == discreet(f"about {IBAN}", change("magicline.contract", {"id": 1, "iban": IBAN}))
    assert f"about {IBAN}" == discreet(f"about {IBAN}", change("magicline.customer", None))
    assert "gone" == discreet("gone", None)
