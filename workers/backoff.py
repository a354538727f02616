"""When to try again: full jitter, and what the provider asked for."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared.configuration import Retry


def wait_seconds(policy: Retry, attempts: int, asked: float | None = None) -> float:
    """Seconds until the next attempt after ``attempts`` of them, never before what the provider asked for.

    Full jitter, as in https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ : a random part of the
    exponential wait, so that what failed together is not tried again together. What the provider asks for counts up
    to ``max_seconds``.
    """
    ceiling = min(policy.max_seconds, policy.base_seconds * 2.0 ** min(attempts - 1, 60))
    jitter = random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing
    return max(jitter, min(asked or 0.0, policy.max_seconds))


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, in both its forms (RFC 9110, 10.2.3); None when it says nothing."""
    if not value:
        return None
    if value.strip().isdecimal() and value.isascii():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
