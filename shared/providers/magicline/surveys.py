"""What reconciliation can go through at Magicline: all customers, and each one's bookings around today."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.providers.interface import Call, Record, Survey
from shared.providers.magicline.event_types import (
    APPOINTMENT_BOOKING,
    APPOINTMENT_BOOKINGS,
    CLASS_BOOKING,
    CLASS_BOOKINGS,
    CUSTOMER,
    CUSTOMERS,
    Read,
)


_REPAIRS: Final[Mapping[str, Read]] = {
    CUSTOMERS.purpose: CUSTOMER,
    APPOINTMENT_BOOKINGS.purpose: APPOINTMENT_BOOKING,
    CLASS_BOOKINGS.purpose: CLASS_BOOKING,
}


def _customer(external_id: str, members: Mapping[str, Any]) -> Sequence[Call]:
    del members
    path = CUSTOMER.path.format(customerId=external_id)
    return (Call(path, CUSTOMER.purpose, {"external_id": external_id}, missing="tombstone"),)


def _bookings(read: Read, of_what: str) -> Survey:
    def calls(external_id: str, members: Mapping[str, Any]) -> Sequence[Call]:
        del members
        return (Call(read.path.format(customerId=external_id), read.purpose),)

    return Survey(
        name=f"{of_what} bookings",
        of=CUSTOMER.kind,
        calls=calls,
        whole=False,
        said=f"{of_what} bookings from two weeks ago to two weeks ahead: Magicline lists no others",
    )


SURVEYS: Final = (
    Survey(
        name="customers",
        first=(Call(CUSTOMERS.path, CUSTOMERS.purpose),),
        complete=CUSTOMER.kind,
        by_id=_customer,
        whole=False,
        ignored=frozenset({"imageUrl"}),  # "It will expire after 15 minutes": another one with each answer
        said="all customers: Magicline's list cannot be narrowed down by time",
    ),
    _bookings(APPOINTMENT_BOOKINGS, "appointment"),
    _bookings(CLASS_BOOKINGS, "class"),
)


def repair(call: Call, record: Record) -> Call:
    """The read of one thing, the same that its events lead to; a read by id repairs itself."""
    read = _REPAIRS.get(call.purpose)
    if read is None:
        return call
    path = read.path.format_map({read.known_id: record.external_id})
    return Call(path, read.purpose, {"external_id": record.external_id})
