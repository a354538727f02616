"""The record kinds as pydantic models: what each provider documents, and whatever else it sends beside it.

Every field but the id may be missing: providers leave out what is not set, and add fields without notice. What a
model does not name is kept (``record.model_extra``). Amounts are ``Decimal``; provider times stay text where the
provider's own form is no ISO 8601 (Magicline's ``...+02:00[Europe/Berlin]``) and numbers where they are Unix seconds.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Any record; its fields are what the provider sent."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


# ── imin ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class IminCustomerAccount(Record):
    """``imin.customer-account``, by ``identifier``."""

    identifier: str
    url: str | None = Field(default=None, alias="@id")
    customer: dict[str, Any] | None = None
    access_pass: dict[str, Any] | None = Field(default=None, alias="accessPass")
    entitlement: dict[str, Any] | None = None


class IminUpdateNotification(Record):
    """``imin.update-notification``, by ``@id``: it comes exactly once, for all time."""

    id: str = Field(alias="@id")


# ── Magicline ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class MagiclineCustomer(Record):
    """``magicline.customer``, by ``id``."""

    id: int | None = None
    customer_number: str | None = Field(default=None, alias="customerNumber")
    first_name: str | None = Field(default=None, alias="firstName")
    last_name: str | None = Field(default=None, alias="lastName")
    date_of_birth: str | None = Field(default=None, alias="dateOfBirth")
    email: str | None = None
    status: str | None = None
    access_refusal: bool | None = Field(default=None, alias="accessRefusal")
    studio_id: int | None = Field(default=None, alias="studioId")
    access_mediums: list[dict[str, Any]] = Field(default_factory=list, alias="accessMediums")


class MagiclineContract(Record):
    """``magicline.contract``, by ``id``."""

    id: int | None = None
    created_date: str | None = Field(default=None, alias="createdDate")
    start_date: str | None = Field(default=None, alias="startDate")
    end_date: str | None = Field(default=None, alias="endDate")
    rate_name: str | None = Field(default=None, alias="rateName")
    contract_status: str | None = Field(default=None, alias="contractStatus")
    cancelled: bool | None = None


class MagiclineEmployee(Record):
    """``magicline.employee``, by ``id``."""

    id: int | None = None


class MagiclineDevice(Record):
    """``magicline.device``, by ``id``."""

    id: int | None = None


class MagiclineCheckin(Record):
    """``magicline.checkin``, by ``checkinId``."""

    checkin_id: int | None = Field(default=None, alias="checkinId")
    check_in_date_time: str | None = Field(default=None, alias="checkInDateTime")
    check_out_date_time: str | None = Field(default=None, alias="checkOutDateTime")
    studio_id: int | None = Field(default=None, alias="studioId")


class MagiclineAppointmentBooking(Record):
    """``magicline.appointment-booking``, by ``bookingId``."""

    booking_id: int | None = Field(default=None, alias="bookingId")
    booking_status: str | None = Field(default=None, alias="bookingStatus")
    customer_id: int | None = Field(default=None, alias="customerId")


class MagiclineClassBooking(Record):
    """``magicline.class-booking``, by ``bookingId``."""

    booking_id: int | None = Field(default=None, alias="bookingId")
    booking_status: str | None = Field(default=None, alias="bookingStatus")
    class_id: int | None = Field(default=None, alias="classId")
    class_slot_id: int | None = Field(default=None, alias="classSlotId")
    customer_id: int | None = Field(default=None, alias="customerId")


class MagiclineRecord(Record):
    """The other kinds of Magicline, whose fields are as its API documents them."""


# ── Paybook ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class PaybookCredential(Record):
    """``paybook.credential``, by ``id_credential``."""

    id_credential: str | None = None
    id_user: str | None = None
    id_site: str | None = None
    is_authorized: int | None = None
    code: int | None = None
    dt_refresh: int | None = None


class PaybookAccount(Record):
    """``paybook.account``, by ``id_account``."""

    id_account: str | None = None
    id_user: str | None = None
    id_credential: str | None = None
    name: str | None = None
    number: str | None = None
    balance: Decimal | None = None
    currency: str | None = None
    account_type: str | None = None


class PaybookTransaction(Record):
    """``paybook.transaction``, by ``id_transaction``."""

    id_transaction: str | None = None
    id_account: str | None = None
    id_user: str | None = None
    description: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    is_deleted: int | None = None
    is_disable: int | None = None
    is_pending: int | None = None
    dt_transaction: int | None = None


class PaybookAttachment(Record):
    """``paybook.attachment``, by ``id_attachment``."""

    id_attachment: str | None = None
    id_account: str | None = None
    id_transaction: str | None = None
    file: str | None = None
    mime: str | None = None
    url: str | None = None


# ── Authenteq ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class AuthenteqVerification(Record):
    """``authenteq.verification``, by ``id``; images are ``{"blob", "content_type", "bytes", "sha256"}``."""

    id: str | None = None
    status: str | None = None
    platform: str | None = None
    start_time: str | None = Field(default=None, alias="startTime")
    end_time: str | None = Field(default=None, alias="endTime")
    document_data: dict[str, Any] | None = Field(default=None, alias="documentData")
    nfc_verified: bool | None = Field(default=None, alias="nfcVerified")


KINDS: Mapping[str, type[Record]] = {
    "imin.customer-account": IminCustomerAccount,
    "imin.update-notification": IminUpdateNotification,
    "magicline.customer": MagiclineCustomer,
    "magicline.contract": MagiclineContract,
    "magicline.employee": MagiclineEmployee,
    "magicline.device": MagiclineDevice,
    "magicline.checkin": MagiclineCheckin,
    "magicline.appointment-booking": MagiclineAppointmentBooking,
    "magicline.class-booking": MagiclineClassBooking,
    **dict.fromkeys(
        (
            "magicline.class-slot",
            "magicline.studio",
            "magicline.tax-export",
            "magicline.debt-collection-run",
            "magicline.idle-period",
            "magicline.module-contract",
            "magicline.debt-collection-case",
            "magicline.communication-preferences",
            "magicline.additional-fields",
            "magicline.debt-collection-configuration",
        ),
        MagiclineRecord,
    ),
    "paybook.credential": PaybookCredential,
    "paybook.account": PaybookAccount,
    "paybook.transaction": PaybookTransaction,
    "paybook.attachment": PaybookAttachment,
    "authenteq.verification": AuthenteqVerification,
}
"""Record kind -> its model. A kind that is not here (a provider of your own) is a plain ``Record``."""


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind's records. Raises KeyError for a kind that is not known."""
    return KINDS[kind].model_json_schema(by_alias=True)
