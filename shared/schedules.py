"""The sections of ``penstock.toml`` on what the relay does by the clock: reconciliation, and watching."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Literal

from pydantic import Field, field_validator

from shared.providers.account import Section


_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class Reconcile(Section):
    """``[reconcile]``: whether the relay reconciles every account by itself, once a day."""

    schedule: Literal["off", "daily"] = "off"
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
    """``[watch]``: silence that is unusual, and registrations that fail."""

    silence_spans: float = Field(default=6.0, ge=0)
    """A warning is due when so many spans of five minutes with an event were to be expected by now; 0: never."""
    registrations_seconds: float = Field(default=3600.0, ge=0)
    """How often Paybook's registrations are looked at; 0: never."""
