"""The sections of ``penstock.toml`` on what the relay does by the clock: reconciliation, watching, retention."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Literal

from pydantic import Field, field_validator

from shared.providers.account import Section


_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class Reconcile(Section):
    """Whether the relay reconciles every account by itself, once a day."""

    schedule: Literal["off", "daily"] = "off"
    """``daily``: the relay reconciles every account by itself."""
    at: str = "03:00"
    """When it begins, UTC."""

    @field_validator("at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if not _CLOCK.fullmatch(value):
            raise ValueError('must be a time of the day in UTC, such as "03:00"')
        return value

    def latest(self, now: datetime) -> datetime:
        """The last moment at which a walk was to begin."""
        hour, minute = self.at.split(":")
        today = datetime.combine(now.astimezone(UTC).date(), time(int(hour), int(minute)), UTC)
        return today if today <= now else today - timedelta(days=1)


class Watch(Section):
    """Silence that is unusual, registrations that fail, and what is stuck."""

    silence_spans: float = Field(default=6.0, ge=0)
    """A warning is due when so many spans of five minutes with an event were to be expected by now; 0: never."""
    registrations_seconds: float = Field(default=3600.0, ge=0)
    """How often Paybook's registrations are looked at; 0: never."""
    stuck_minutes: float = Field(default=10.0, gt=0)
    """``penstock check`` and the console tell of an event that has been received for so long and that nobody plans."""


class Retention(Section):
    """After how many days what is removed; 0: never. ``[imin.retention]`` and its like override it for one provider.

    None may be shorter than the time in which the provider sends a delivery again (``Privacy.redelivered_days``): its
    identity would be gone, and it would not be known as a duplicate.
    """

    bodies: int = Field(default=30, ge=0)
    """Raw bodies of events that are done, or duplicates: the event stays, and cannot be replayed."""
    images: int = Field(default=30, ge=0)
    """Images that came with deliveries (Authenteq's)."""
    timeline: int = Field(default=90, ge=0)
    """What happened step by step to events that are done, or duplicates."""
    deleted_records: int = Field(default=90, ge=0)
    """Records that the provider deleted."""
    changes: int = Field(default=90, ge=0)
    """Entries of the change feed that every handler is done with."""
    events: int = Field(default=180, ge=0)
    """Events with all that is left of them, also those that are parked or failed."""

    def shorter_than(self, days: int) -> str | None:
        """The first setting that is."""
        return next((name for name in type(self).model_fields if 0 < getattr(self, name) < days), None)
