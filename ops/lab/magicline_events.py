"""What each of Magicline's event types does to the studio, what its ``entityId`` means and what ``content`` holds.

The table follows providers.md 2.4 (types, entity ids and content found in the vendor's documents).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ops.lab.happening import LabError
from ops.lab.magicline_things import ZONE


if TYPE_CHECKING:
    from ops.lab.magicline_world import MagiclineWorld

Told = tuple[int, dict[str, Any]]
"""entityId and content."""
Handler = Callable[["MagiclineWorld", str, Mapping[str, Any]], Told]


def apply(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
    """Let the event happen in the world; what the delivery tells about it."""
    return (EVENTS.get(event) or _undocumented)(world, event, options)


def _customer_of(world: MagiclineWorld, options: Mapping[str, Any]) -> int:
    which = int(options.get("customer") or world.some_customer())
    if world.get("customer", which) is None:
        raise LabError(f"the lab's studio {world.studio.name} has no customer {which}")
    return which


def _customer_created(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
    which = int(options.get("customer") or world.new("customer"))
    world.put("customer", which, {})
    return which, {"aggregatorId": 7} if event == "AGGREGATOR_MEMBER_CREATED" else {}


def _customer_updated(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    world.put("customer", which, {"email": f"customer{which}.{world.happenings}@example.org"})
    return which, {}


def _customer_deleted(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    world.remove("customer", which)
    return which, {}


def _access_disabled(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    world.disable_access(which)
    return which, {}


def _access_medium(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    mediums = [*(world.get("customer", which) or {})["accessMediums"]]
    medium = {"id": which * 10, "type": "CARD_NUMBER", "value": f"{world.happenings:08d}"}
    match event.rsplit("_", 1)[1]:
        case "CREATED":
            mediums.append({**medium, "id": which * 10 + 1 + len(mediums)})
        case "UPDATED":
            mediums = [medium, *mediums[1:]]
        case _:
            mediums = mediums[:-1]
    world.put("customer", which, {"accessMediums": mediums})
    return which, {}


def _access_restriction(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    created = event.endswith("CREATED")
    restrictions = [{"id": which * 10 + 5, "reason": f"Locker {world.happenings}"}] if created else []
    world.put("customer", which, {"accessRefusal": created, "accessRestrictions": restrictions})
    return which, {}


def _preferences(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    value = world.get("communication-preferences", which) or {}
    items = [dict(item) for item in value["items"]]
    items[0]["channels"] = [{**items[0]["channels"][0], "active": world.happenings % 2 == 0}]
    world.put("communication-preferences", which, {"items": items})
    return which, {}


def _checkin(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    _check_in(world, which, world.now())
    return which, {}


def _check_in(world: MagiclineWorld, customer: int, moment: datetime) -> None:
    ids = world.ids("checkin", customer)
    ids.append(customer * 1000 + 100 + len(ids))
    local = moment.astimezone(ZONE).isoformat(timespec="seconds")
    world.put("checkin", ids[-1], {"checkInDateTime": local, "checkOutDateTime": None})


def _check_out(world: MagiclineWorld, customer: int) -> str:
    """Close the customer's open check-in; who has none came an hour ago."""
    ids = world.ids("checkin", customer)
    if not ids or (world.get("checkin", ids[-1]) or {})["checkOutDateTime"] is not None:
        _check_in(world, customer, world.now() - timedelta(hours=1))
    moment = world.now().astimezone(ZONE).isoformat(timespec="seconds")
    world.put("checkin", ids[-1], {"checkOutDateTime": moment})
    return moment


def _checkout(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    _check_out(world, which)
    return which, {}


def _automatic_checkout(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    first = _customer_of(world, options)
    wanted = int(options.get("customers") or 3)
    customers = [which for which in range(first, first + 10 * wanted) if world.reachable(which) == 200][:wanted]  # noqa: PLR2004 - an HTTP status
    checkouts = [{"customerId": which, "checkoutTime": _check_out(world, which)} for which in customers]
    return world.studio.id, {"checkouts": checkouts}


def _checkin_studios(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    contract = world.ids("contract", which)[0]
    world.put("contract", contract, {"checkinStudios": [world.studio.id, world.happenings]})
    return which, {"contractId": contract}


def _home_studio(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    target = world.studio.id + 1
    world.put("customer", which, {"studioId": target})
    if options.get("moved"):
        world.move(which)
    return which, {"sourceStudioId": world.studio.id, "targetStudioId": target}


def _contract(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
    which = _customer_of(world, options)
    ids = world.ids("contract", which)
    match event.rsplit("_", 1)[1]:
        case "CREATED" if len(ids) < 90:  # noqa: PLR2004 - ids of one customer's contracts have two digits
            ids.append(which * 100 + len(ids) + 1)
            world.put("contract", ids[-1], {})
        case "CANCELLED":
            world.put("contract", ids[-1], {"cancelled": True, "cancellationDate": "2026-06-30"})
        case _:
            world.put("contract", ids[-1], {"rateName": f"Premium {world.happenings}"})
    return which, {"contractId": ids[-1]}


def _part_of_contract(kind: str, field: str, first: int) -> Handler:
    def happen(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
        which = _customer_of(world, options)
        contract = world.ids("contract", which)[0]
        part = int(options.get("id") or contract * 100 + first)
        if event.endswith(("CANCELLED", "DELETED")) and event not in _CANCELLED_STAYS:
            world.remove(kind, part)
        else:
            status = "CANCELLED" if event in _CANCELLED_STAYS else f"ACTIVE since {world.happenings}"
            world.put(kind, part, {"status": status})
        return which, {"contractId": contract, field: part}

    return happen


# A cancelled module contract runs on until its end and can be read; a cancelled idle period is gone (providers.md 2.4).
_CANCELLED_STAYS = frozenset({"CONTRACT_ADDITIONAL_MODULE_CANCELLED"})


def _booking(kind: str) -> Handler:
    def happen(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
        fresh = world.new(kind) if event.endswith("CREATED") else 2000 + world.happenings % 100
        which = int(options.get("id") or fresh)
        status = {"CANCELLED": "CANCELED", "UPDATED": "BOOKED_WITH_CONFIRMATION_REQUIRED"}
        world.put(kind, which, {"bookingStatus": status.get(event.rsplit("_", 1)[1], "BOOKED")})
        if options.get("gone"):
            world.remove(kind, which)
        return which, {}

    return happen


def _class_slot(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
    which = int(options.get("id") or 14_000 + world.happenings % 200)
    slot = world.put("class-slot", which, {"bookedParticipants": world.happenings % 25})
    if event.endswith("CANCELLED"):
        world.remove("class-slot", which)
    return which, {"classId": slot["classInformation"]["id"]}


def _device(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    which = int(options.get("id") or world.new("device"))
    world.ids("device", 0).append(which)
    return which, {}


def _employee(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
    fresh = world.new("employee") if event.endswith("CREATED") else 300 + world.happenings % 40
    which = int(options.get("id") or fresh)
    if event.endswith("DELETED"):
        world.remove("employee", which)
    else:
        world.put("employee", which, {"publicName": f"Coach {world.happenings}"})
    return which, {}


def _of_studio(kind: str, field: str) -> Handler:
    def happen(world: MagiclineWorld, _: str, __: Mapping[str, Any]) -> Told:
        value = world.get(kind, world.studio.id) or {}
        changed = (
            [*value[field], _NEXT[field](world.happenings)] if isinstance(value[field], list) else world.happenings
        )
        world.put(kind, world.studio.id, {field: changed[-10:] if isinstance(changed, list) else changed})
        return world.studio.id, {}

    return happen


_NEXT: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "openingHours": lambda count: {
        "dayOfWeekFrom": "SATURDAY",
        "dayOfWeekTo": "SUNDAY",
        "timeFrom": f"{6 + count % 6:02d}:00",
        "timeTo": "20:00",
    },
    "items": lambda count: {"id": 10 + count, "name": f"Field {count}", "type": "TEXT"},
}


def _by_id(kind: str) -> Handler:
    def happen(world: MagiclineWorld, event: str, options: Mapping[str, Any]) -> Told:
        which = int(options.get("id") or world.new(kind))
        world.put(kind, which, {})
        if event != "FINANCE_DEBT_COLLECTION_CASE_UPDATED":
            return which, {}
        case = (world.get(kind, which) or {})["agencyCollectionCases"][0]
        return which, {"agencyDebtCollectionCaseId": case["agencyCollectionCaseId"]}

    return happen


def _undocumented(world: MagiclineWorld, _: str, options: Mapping[str, Any]) -> Told:
    return _customer_of(world, options), {}


EVENTS: Mapping[str, Handler] = {
    "CUSTOMER_UPDATED": _customer_updated,
    "CUSTOMER_CREATED": _customer_created,
    "CUSTOMER_DELETED": _customer_deleted,
    "CUSTOMER_ACCESS_DISABLED": _access_disabled,
    "CUSTOMER_CHECKIN": _checkin,
    "CUSTOMER_CHECKOUT": _checkout,
    "AUTOMATIC_CUSTOMER_CHECKOUT": _automatic_checkout,
    "CUSTOMER_ACCESS_MEDIUM_CREATED": _access_medium,
    "CUSTOMER_ACCESS_MEDIUM_UPDATED": _access_medium,
    "CUSTOMER_ACCESS_MEDIUM_DELETED": _access_medium,
    "CUSTOMER_ACCESS_RESTRICTION_CREATED": _access_restriction,
    "CUSTOMER_ACCESS_RESTRICTION_DELETED": _access_restriction,
    "CUSTOMER_COMMUNICATION_PREFERENCES_UPDATED": _preferences,
    "CUSTOMER_CHECKIN_STUDIOS_UPDATED": _checkin_studios,
    "CUSTOMER_HOME_STUDIO_UPDATED": _home_studio,
    "AGGREGATOR_MEMBER_CREATED": _customer_created,
    "CONTRACT_CREATED": _contract,
    "CONTRACT_UPDATED": _contract,
    "CONTRACT_CANCELLED": _contract,
    **{
        f"CONTRACT_IDLE_PERIOD_{what}": _part_of_contract("idle-period", "idlePeriodId", 1)
        for what in ("CREATED", "UPDATED", "CANCELLED")
    },
    **{
        f"CONTRACT_ADDITIONAL_MODULE_{what}": _part_of_contract("module-contract", "moduleContractId", 51)
        for what in ("CREATED", "UPDATED", "CANCELLED", "DELETED")
    },
    **{f"APPOINTMENT_BOOKING_{what}": _booking("appointment-booking") for what in ("CREATED", "UPDATED", "CANCELLED")},
    **{f"CLASS_BOOKING_{what}": _booking("class-booking") for what in ("CREATED", "UPDATED", "CANCELLED")},
    "CLASS_SLOT_UPDATED": _class_slot,
    "CLASS_SLOT_CANCELLED": _class_slot,
    "DEVICE_CREATED": _device,
    "EMPLOYEE_CREATED": _employee,
    "EMPLOYEE_UPDATED": _employee,
    "EMPLOYEE_DELETED": _employee,
    "STUDIO_OPENING_HOURS_UPDATED": _of_studio("studio", "openingHours"),
    "ADDITIONAL_INFORMATION_FIELDS_UPDATED": _of_studio("additional-fields", "items"),
    "FINANCE_DEBT_COLLECTION_RUN_CREATED": _by_id("debt-collection-run"),
    "FINANCE_DEBT_COLLECTION_CONFIGURATION_UPDATED": _of_studio("debt-collection-configuration", "minimumAmount"),
    "FINANCE_DEBT_COLLECTION_CASE_UPDATED": _by_id("debt-collection-case"),
    "TAX_ADVISOR_EXPORT_CREATED": _by_id("tax-export"),
}

# Seen by an integrator, listed by nobody (providers.md 2.4): what an unknown type looks like.
UNDOCUMENTED = ("CUSTOMER_PAYMENT_REJECTED", "CONTRACT_REVERSED")
