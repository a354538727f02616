"""The 44 event types: what ``entityId`` means, which read follows, and which record that leaves.

The list and the meanings are the vendor's (page "Event Types", state of February 2026; README.md names the source).
The vendor pairs a type with a read for CUSTOMER_CREATED only; the other pairs follow from the entity. The vendor adds
types as it goes: a type that is not here parks its event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class Read:
    """One GET of the Open API, and what its answer is.

    ``{names}`` in ``path`` are what ``entityId`` means, ids in ``content``, or the days around the event.
    """

    purpose: str
    path: str
    kind: str
    """The kind of the records that the answer holds."""
    scope: str
    """What a key must have been given to make this call [api, the description of each endpoint]."""
    shape: Literal["object", "list", "array", "slices", "cases", "run", "debtors"] = "object"
    own_id: str = ""
    """The field of the answer (of each item) that is the record's external id."""
    known_id: str = ""
    """The name of the external id as far as the event tells it; ``account`` is the account's name."""
    elsewhere: str = ""
    """The purpose of the read to make instead when this one is refused."""
    wrap: str = ""
    """An answer that is a bare array becomes an object with this one member: a record's data is an object."""

    @property
    def endpoint(self) -> str:
        """The endpoint as the vendor's documents name it; its limit counts over it."""
        return f"GET {self.path.partition('?')[0]}"


CUSTOMER = Read(
    "customer",
    "/v1/customers/{customerId}",
    "magicline.customer",
    own_id="id",
    known_id="customerId",
    scope="CUSTOMER_READ",
)
CROSS_STUDIO_CUSTOMER = Read(
    "cross-studio-customer",
    "/v1/cross-studio/customers/{customerId}",
    "magicline.customer",
    own_id="id",
    known_id="customerId",
    scope="CUSTOMER_READ",
)
MOVED_CUSTOMER = replace(CUSTOMER, purpose="moved-customer", elsewhere=CROSS_STUDIO_CUSTOMER.purpose)
CHECKINS = Read(
    "check-ins",
    "/v1/customers/{customerId}/activities/checkins?fromDate={fromDate}&toDate={toDate}&sliceSize=50",
    "magicline.checkin",
    shape="slices",
    own_id="checkinId",
    scope="CHECKIN_READ",
)
COMMUNICATION_PREFERENCES = Read(
    "communication-preferences",
    "/v1/communications/{customerId}/communication-preferences",
    "magicline.communication-preferences",
    known_id="customerId",
    wrap="preferences",
    scope="COMMUNICATION_PREFERENCES_READ",
)
ADDITIONAL_FIELDS = Read(
    "additional-fields",
    "/v1/customers/additional-information-fields",
    "magicline.additional-fields",
    known_id="account",
    wrap="fields",
    scope="ADDITIONAL_INFORMATION_READ",
)
CONTRACT = Read(
    "contracts",
    "/v1/customers/{customerId}/contracts",
    "magicline.contract",
    shape="list",
    own_id="id",
    known_id="contractId",
    scope="CUSTOMER_CONTRACT_READ",
)
IDLE_PERIOD = Read(
    "idle-period",
    "/v1/memberships/{contractId}/self-service/idle-periods/{idlePeriodId}",
    "magicline.idle-period",
    known_id="idlePeriodId",
    scope="MEMBERSHIP_SELF_SERVICE_IDLE_PERIOD_READ",
)
MODULE_CONTRACT = Read(
    "module-contract",
    "/v1/memberships/{contractId}/self-service/additional-module-contracts/{moduleContractId}",
    "magicline.module-contract",
    known_id="moduleContractId",
    scope="MEMBERSHIP_SELF_SERVICE_ADDITIONAL_MODULE_CONTRACT_READ",
)
APPOINTMENT_BOOKING = Read(
    "appointment-booking",
    "/v1/appointments/booking/{bookingId}",
    "magicline.appointment-booking",
    own_id="bookingId",
    known_id="bookingId",
    scope="APPOINTMENTS_READ",
)
CLASS_BOOKING = Read(
    "class-booking",
    "/v1/classes/booking/{bookingId}",
    "magicline.class-booking",
    own_id="bookingId",
    known_id="bookingId",
    scope="CLASSES_READ",
)
CLASS_SLOT = Read(
    "class-slot",
    "/v1/classes/{classId}/slots/{classSlotId}",
    "magicline.class-slot",
    known_id="classSlotId",
    scope="CLASSES_READ",
)
DEVICE = Read(
    "devices", "/v1/devices", "magicline.device", shape="list", own_id="id", known_id="deviceId", scope="DEVICE_READ"
)
EMPLOYEE = Read(
    "employee",
    "/v1/employees/{employeeId}",
    "magicline.employee",
    own_id="id",
    known_id="employeeId",
    scope="EMPLOYEE_READ",
)
STUDIO = Read("studio", "/v1/studios/information", "magicline.studio", known_id="studioId", scope="STUDIO_READ")
DEBT_RUN = Read(
    "debt-collection-run",
    "/v1/debt-collection/{debtCollectionRunId}/details",
    "magicline.debt-collection-run",
    shape="run",
    known_id="debtCollectionRunId",
    scope="DEBT_COLLECTION_READ",
)
DEBTORS = Read(
    "debtors",
    "/v1/debt-collection/{debtCollectionRunId}/debtors?sliceSize=50",
    "magicline.debt-collection-run",
    shape="debtors",
    known_id="debtCollectionRunId",
    scope="DEBT_COLLECTION_READ",
)
DEBT_CONFIGURATION = Read(
    "debt-collection-configuration",
    "/v1/debt-collection/configuration",
    "magicline.debt-collection-configuration",
    known_id="account",
    wrap="configuration",
    scope="DEBT_COLLECTION_READ",
)
DEBT_CASES = Read(
    "debt-collection-cases",
    "/v1/debt-collection/cases?caseAdjustmentRequestId={caseAdjustmentRequestId}",
    "magicline.debt-collection-case",
    shape="cases",
    scope="DEBT_COLLECTION_READ",
)
TAX_EXPORT = Read(
    "tax-export",
    "/v1/taxadvisor/exports/{exportId}",
    "magicline.tax-export",
    known_id="exportId",
    scope="TAX_ADVISOR_EXPORT_READ",
)

# Made by no event: what reconciliation goes through. "Returns all customers from studio in expected slices" (50 to
# 500); bookings of one customer "within a timeframe of +/- 2 weeks" (pages getcustomers, getappointmentbookings).
CUSTOMERS = Read(
    "customers", "/v1/customers?sliceSize=500", "magicline.customer", shape="slices", own_id="id", scope="CUSTOMER_READ"
)
APPOINTMENT_BOOKINGS = Read(
    "appointment-bookings",
    "/v1/appointments/booking?customerId={customerId}",
    "magicline.appointment-booking",
    shape="array",
    own_id="bookingId",
    scope="APPOINTMENTS_READ",
)
CLASS_BOOKINGS = Read(
    "class-bookings",
    "/v1/classes/booking?customerId={customerId}",
    "magicline.class-booking",
    shape="array",
    own_id="bookingId",
    scope="CLASSES_READ",
)

READS: Mapping[str, Read] = MappingProxyType(
    {
        read.purpose: read
        for read in (
            CUSTOMER,
            MOVED_CUSTOMER,
            CROSS_STUDIO_CUSTOMER,
            CHECKINS,
            COMMUNICATION_PREFERENCES,
            ADDITIONAL_FIELDS,
            CONTRACT,
            IDLE_PERIOD,
            MODULE_CONTRACT,
            APPOINTMENT_BOOKING,
            CLASS_BOOKING,
            CLASS_SLOT,
            DEVICE,
            EMPLOYEE,
            STUDIO,
            DEBT_RUN,
            DEBTORS,
            DEBT_CONFIGURATION,
            DEBT_CASES,
            TAX_EXPORT,
            CUSTOMERS,
            APPOINTMENT_BOOKINGS,
            CLASS_BOOKINGS,
        )
    }
)


@dataclass(frozen=True, slots=True)
class EventType:
    """What to do about one type."""

    entity: str
    """What ``entityId`` is; empty where the vendor does not say."""
    read: Read | None = None
    deleted: str = ""
    """The kind of the record that ``entityId`` no longer is; nothing is called."""
    each: str = ""
    """The list in ``content`` whose items are read one by one, instead of the entity."""


EVENT_TYPES: Mapping[str, EventType] = MappingProxyType(
    {
        "ADDITIONAL_INFORMATION_FIELDS_UPDATED": EventType("studioId", ADDITIONAL_FIELDS),
        "AGGREGATOR_MEMBER_CREATED": EventType("customerId", CUSTOMER),
        "APPOINTMENT_BOOKING_CANCELLED": EventType("bookingId", APPOINTMENT_BOOKING),
        "APPOINTMENT_BOOKING_CREATED": EventType("bookingId", APPOINTMENT_BOOKING),
        "APPOINTMENT_BOOKING_UPDATED": EventType("bookingId", APPOINTMENT_BOOKING),
        "AUTOMATIC_CUSTOMER_CHECKOUT": EventType("studioId", CHECKINS, each="checkouts"),
        "CLASS_BOOKING_CANCELLED": EventType("bookingId", CLASS_BOOKING),
        "CLASS_BOOKING_CREATED": EventType("bookingId", CLASS_BOOKING),
        "CLASS_BOOKING_UPDATED": EventType("bookingId", CLASS_BOOKING),
        "CLASS_SLOT_CANCELLED": EventType("classSlotId", CLASS_SLOT),
        "CLASS_SLOT_UPDATED": EventType("classSlotId", CLASS_SLOT),
        "CONTRACT_ADDITIONAL_MODULE_CANCELLED": EventType("customerId", MODULE_CONTRACT),
        "CONTRACT_ADDITIONAL_MODULE_CREATED": EventType("customerId", MODULE_CONTRACT),
        "CONTRACT_ADDITIONAL_MODULE_DELETED": EventType("customerId", MODULE_CONTRACT),
        "CONTRACT_ADDITIONAL_MODULE_UPDATED": EventType("customerId", MODULE_CONTRACT),
        "CONTRACT_CANCELLED": EventType("customerId", CONTRACT),
        "CONTRACT_CREATED": EventType("customerId", CONTRACT),
        "CONTRACT_IDLE_PERIOD_CANCELLED": EventType("customerId", IDLE_PERIOD),
        "CONTRACT_IDLE_PERIOD_CREATED": EventType("customerId", IDLE_PERIOD),
        "CONTRACT_IDLE_PERIOD_UPDATED": EventType("customerId", IDLE_PERIOD),
        "CONTRACT_UPDATED": EventType("customerId", CONTRACT),
        # "It is not possible to request customer data after this event": nothing to call, nothing known to be gone.
        "CUSTOMER_ACCESS_DISABLED": EventType("customerId"),
        "CUSTOMER_ACCESS_MEDIUM_CREATED": EventType("customerId", CUSTOMER),
        "CUSTOMER_ACCESS_MEDIUM_DELETED": EventType("customerId", CUSTOMER),
        "CUSTOMER_ACCESS_MEDIUM_UPDATED": EventType("customerId", CUSTOMER),
        "CUSTOMER_ACCESS_RESTRICTION_CREATED": EventType("customerId", CUSTOMER),
        "CUSTOMER_ACCESS_RESTRICTION_DELETED": EventType("customerId", CUSTOMER),
        "CUSTOMER_CHECKIN": EventType("customerId", CHECKINS),
        "CUSTOMER_CHECKIN_STUDIOS_UPDATED": EventType("customerId", CONTRACT),
        "CUSTOMER_CHECKOUT": EventType("customerId", CHECKINS),
        "CUSTOMER_COMMUNICATION_PREFERENCES_UPDATED": EventType("customerId", COMMUNICATION_PREFERENCES),
        "CUSTOMER_CREATED": EventType("customerId", CUSTOMER),
        "CUSTOMER_DELETED": EventType("customerId", deleted=CUSTOMER.kind),
        "CUSTOMER_HOME_STUDIO_UPDATED": EventType("customerId", MOVED_CUSTOMER),
        "CUSTOMER_UPDATED": EventType("customerId", CUSTOMER),
        "DEVICE_CREATED": EventType("deviceId", DEVICE),
        "EMPLOYEE_CREATED": EventType("employeeId", EMPLOYEE),
        "EMPLOYEE_DELETED": EventType("employeeId", deleted=EMPLOYEE.kind),
        "EMPLOYEE_UPDATED": EventType("employeeId", EMPLOYEE),
        "FINANCE_DEBT_COLLECTION_CASE_UPDATED": EventType("caseAdjustmentRequestId", DEBT_CASES),
        "FINANCE_DEBT_COLLECTION_CONFIGURATION_UPDATED": EventType("", DEBT_CONFIGURATION),
        "FINANCE_DEBT_COLLECTION_RUN_CREATED": EventType("debtCollectionRunId", DEBT_RUN),
        "STUDIO_OPENING_HOURS_UPDATED": EventType("studioId", STUDIO),
        "TAX_ADVISOR_EXPORT_CREATED": EventType("exportId", TAX_EXPORT),
    }
)
