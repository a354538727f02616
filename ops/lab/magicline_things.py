"""How each thing of a Magicline studio looks before anything happened to it: generated from the seed and its id.

Ids tell where a thing belongs: customer 1001 has the contracts 100101, 100102 ..., contract 100101 the idle period
10010101 and the module contract 10010151, customer 1001 the check-ins 1001001, 1001002 ...
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ops.lab.seeded import identifier, number, pick


ZONE = ZoneInfo("Europe/Berlin")
# Room for the seed's own sample (entityId 7893459) and for everything that is created while the lab runs.
LARGEST_CUSTOMER = 9_999_999
FIRST_CUSTOMER = 1001
CUSTOMERS = 400


class Studio(NamedTuple):
    """What generation depends on: the seed, the studio's name and id, and the day that the world began."""

    seed: int
    name: str
    id: int
    began: datetime


def zoned(moment: datetime) -> str:
    """A time with its zone as a suffix, which plain ISO parsers refuse (providers.md 2.2)."""
    local = moment.astimezone(ZONE)
    return f"{local.isoformat(timespec='milliseconds')}[{ZONE.key}]"


def customer(studio: Studio, which: int) -> dict[str, Any]:
    """A customer; some have an access medium, none a restriction."""
    bits = number(studio.seed, studio.name, "customer", which)
    return {
        "id": which,
        "customerNumber": f"1-{which}",
        "firstName": pick(("Ana", "Ben", "Çelik", "Dörte", "Emil", "Frida"), bits, "first"),
        "lastName": pick(("Field", "Groß", "Hansen", "Łukasz", "Meyer"), bits, "last"),
        "dateOfBirth": f"{1950 + bits % 50}-{1 + bits % 12:02d}-{1 + bits % 28:02d}",
        "email": f"customer{which}@example.org",
        "status": ("MEMBER", "MEMBER", "PROSPECT", "FORMER_MEMBER")[bits % 4],
        "accessRefusal": False,
        "studioId": studio.id,
        "uuid": identifier(studio.seed, studio.name, which),
        "createdDateTime": zoned(studio.began - timedelta(days=30 + bits % 900, minutes=bits % 1440)),
        "accessMediums": [{"id": which * 10, "type": "CARD_NUMBER", "value": f"{bits % 10**8:08d}"}]
        if bits % 2
        else [],
        "accessRestrictions": [],
        "idlePeriods": [],
    }


def contract(studio: Studio, which: int) -> dict[str, Any]:
    """One contract of a customer."""
    bits = number(studio.seed, studio.name, "contract", which)
    return {
        "id": which,
        "createdDate": "2026-01-01",
        "startDate": "2026-01-01",
        "endDate": "2026-12-31",
        "rateName": pick(("Basic", "Premium", "Gold"), bits),
        "contractStatus": "ACTIVE",
        "cancelled": False,
        "priceDetails": {"amount": 20 + bits % 60, "currency": "EUR"},
        "lastPossibleCancellationDate": "2026-11-30",
        "term": {"value": 12, "unit": "MONTH"},
        "extensionTerm": {"value": 1, "unit": "MONTH"},
    }


def idle_period(_: Studio, which: int) -> dict[str, Any]:
    """One idle period of a contract."""
    return {
        "id": which,
        "contractId": which // 100,
        "startDate": "2026-07-01",
        "endDate": "2026-07-31",
        "reason": "HOLIDAY",
        "status": "ACTIVE",
    }


def module_contract(studio: Studio, which: int) -> dict[str, Any]:
    """One additional module of a contract."""
    bits = number(studio.seed, studio.name, "module", which)
    return {
        "id": which,
        "contractId": which // 100,
        "name": pick(("Sauna", "Drinks", "Towels"), bits),
        "startDate": "2026-02-01",
        "price": {"amount": 5 + bits % 20, "currency": "EUR"},
        "status": "ACTIVE",
    }


def checkin(studio: Studio, which: int) -> dict[str, Any]:
    """A check-in in the last weeks before the world began, closed an hour later."""
    bits = number(studio.seed, studio.name, "checkin", which)
    began = studio.began - timedelta(days=1 + which % 1000, minutes=bits % 600)
    return {
        "checkinId": which,
        "checkInDateTime": began.astimezone(ZONE).isoformat(timespec="seconds"),
        "checkOutDateTime": (began + timedelta(hours=1)).astimezone(ZONE).isoformat(timespec="seconds"),
        "studioId": studio.id,
        "studioName": studio.name,
    }


def class_slot(studio: Studio, which: int) -> dict[str, Any]:
    """A slot of the class ``1 + id % 50``."""
    bits = number(studio.seed, studio.name, "slot", which)
    began = studio.began + timedelta(days=bits % 14, hours=bits % 12)
    return {
        "id": which,
        "classInformation": {"id": 1 + which % 50, "title": pick(("Yoga", "Body", "Spinning"), which % 50)},
        "startDateTime": zoned(began),
        "endDateTime": zoned(began + timedelta(hours=1)),
        "instructors": [{"id": 101, "firstName": "Anna", "lastName": "Chodakowska"}],
        "location": {"id": 203, "name": "Room 1"},
        "earliestBookingDateTime": zoned(began - timedelta(days=7)),
        "latestBookingDateTime": zoned(began - timedelta(minutes=1)),
        "maxParticipants": 25,
        "maxWaitingListParticipants": 5,
        "bookedParticipants": bits % 20,
        "additionalParticipants": 0,
        "waitingListParticipants": 0,
    }


def appointment_booking(studio: Studio, which: int) -> dict[str, Any]:
    """A booked appointment."""
    bits = number(studio.seed, studio.name, "appointment", which)
    began = studio.began + timedelta(days=bits % 14)
    return {
        "bookingId": which,
        "bookingStatus": "BOOKED",
        "customerId": FIRST_CUSTOMER + bits % CUSTOMERS,
        "title": "Trial session",
        "startDateTime": zoned(began),
        "endDateTime": zoned(began + timedelta(minutes=45)),
        "participantStatus": "UNSET",
    }


def class_booking(studio: Studio, which: int) -> dict[str, Any]:
    """A booking of a class slot."""
    bits = number(studio.seed, studio.name, "class-booking", which)
    slot = 14_000 + bits % 200
    return {
        "bookingId": which,
        "bookingStatus": "BOOKED",
        "classSlotId": slot,
        "classId": 1 + slot % 50,
        "customerId": FIRST_CUSTOMER + bits % CUSTOMERS,
        "classSlotStatus": "PLANNED",
        "participantStatus": "UNSET",
    }


def device(_: Studio, which: int) -> dict[str, Any]:
    """A device of the studio."""
    return {"id": which, "name": f"Device {which}", "type": ("CARD_READER", "VENDING", "TIME")[which % 3]}


def employee(studio: Studio, which: int) -> dict[str, Any]:
    """An employee of the studio."""
    bits = number(studio.seed, studio.name, "employee", which)
    return {
        "id": which,
        "firstName": pick(("Gesa", "Hauke", "Ida"), bits, "first"),
        "lastName": pick(("Petersen", "Quast", "Roth"), bits, "last"),
        "publicName": f"Coach {which}",
        "competences": [{"id": 1, "name": "Yoga"}],
    }


def tax_export(_: Studio, which: int) -> dict[str, Any]:
    """An export for the tax adviser; the download's address is valid for 15 minutes."""
    return {
        "id": which,
        "status": "COMPLETED",
        "fromDate": "2026-01-01",
        "toDate": "2026-01-31",
        "downloadUrl": f"https://downloads.example.org/exports/{which}.zip",
    }


def debt_collection_run(studio: Studio, which: int) -> dict[str, Any]:
    """The transfer details of a debt collection run."""
    return {
        "collectionDate": "2026-02-01",
        "debtCollectionType": "TRUST",
        "client": {"name1": studio.name, "preTaxAttribute": False, "postalCode": "10115", "city": "Berlin"},
        "status": "WAITING_FOR_CONFIRMATION",
        "origin": ("DEBT_COLLECTION_RUN", "INDIVIDUAL_HANDOVER")[which % 2],
    }


def debtor(studio: Studio, which: int) -> dict[str, Any]:
    """A debtor of a run; the id is the customer's as text."""
    person = customer(studio, which)
    return {
        "debtorId": str(which),
        "membershipNr": person["customerNumber"],
        "firstName": person["firstName"],
        "lastName": person["lastName"],
        "sex": "FEMALE",
        "city": "Berlin",
        "collectionCases": [
            {
                "collectionCaseId": identifier(studio.seed, studio.name, "case", which),
                "openAmount": 20 + which % 200,
                "debt": [],
            }
        ],
    }


def debt_collection_case(studio: Studio, which: int) -> dict[str, Any]:
    """What the case adjustment request says: one debtor with one agency case (vendor's API description, 1.11.0)."""
    return {
        "debtorId": str(FIRST_CUSTOMER + which % CUSTOMERS),
        "agencyCollectionCases": [
            {
                "agencyCollectionCaseId": f"agency-{which}",
                "collectionCaseIds": [identifier(studio.seed, studio.name, "collection-case", which)],
                "debts": [
                    {
                        "debtId": identifier(studio.seed, studio.name, "debt", which),
                        "originalAmount": 100,
                        "canceledAmount": 0,
                        "paidAmount": 0,
                        "currency": "EUR",
                    }
                ],
            }
        ],
    }


def communication_preferences(studio: Studio, which: int) -> dict[str, Any]:
    """A customer's preferences, under ``items``: the API answers the bare array."""
    bits = number(studio.seed, studio.name, "preferences", which)
    return {
        "items": [
            {
                "messageCategory": category,
                "channels": [
                    {"communicationChannel": "EMAIL", "customerOverridable": True, "active": bool(bits >> place & 1)}
                ],
            }
            for place, category in enumerate(("CONTRACT", "GENERAL", "APPOINTMENT", "NEWSLETTER"))
        ]
    }


def studio_information(studio: Studio, which: int) -> dict[str, Any]:
    """The studio, implied by the key."""
    return {
        "studioId": which,
        "studioName": studio.name,
        "timeZone": ZONE.key,
        "openingHours": [{"dayOfWeekFrom": "MONDAY", "dayOfWeekTo": "FRIDAY", "timeFrom": "06:00", "timeTo": "22:00"}],
    }


def additional_fields(_: Studio, __: int) -> dict[str, Any]:
    """The additional information fields, under ``items``: the API answers the bare array."""
    return {"items": [{"id": 1, "name": "Shoe size", "type": "TEXT"}, {"id": 2, "name": "Locker", "type": "NUMBER"}]}


def debt_collection_configuration(_: Studio, __: int) -> dict[str, Any]:
    """The studio's debt collection settings."""
    return {"debtCollectionEnabled": True, "minimumAmount": 50, "currency": "EUR", "daysUntilHandover": 30}


GENERATORS: Mapping[str, Callable[[Studio, int], dict[str, Any]]] = {
    "customer": customer,
    "contract": contract,
    "idle-period": idle_period,
    "module-contract": module_contract,
    "checkin": checkin,
    "class-slot": class_slot,
    "appointment-booking": appointment_booking,
    "class-booking": class_booking,
    "device": device,
    "employee": employee,
    "tax-export": tax_export,
    "debt-collection-run": debt_collection_run,
    "debtor": debtor,
    "debt-collection-case": debt_collection_case,
    "communication-preferences": communication_preferences,
    "studio": studio_information,
    "additional-fields": additional_fields,
    "debt-collection-configuration": debt_collection_configuration,
}
