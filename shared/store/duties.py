"""What relays tell of their duties: when each last succeeded, and what it has failed with since."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.store.postgres import Connection


class Told(NamedTuple):
    """How one duty stands: ``ago_seconds`` since it last succeeded, or since its relay began.

    ``patience_seconds``: whoever looks calls it stuck when its last success is older. ``error``: of its last failure,
    if it has not succeeded since.
    """

    duty: str
    ago_seconds: float
    patience_seconds: float
    error: str | None


async def tell(connection: Connection, told: Sequence[Told]) -> None:
    """Write down how the duties of this relay stand; of several relays the last success of any counts."""
    await connection.execute(
        """
        INSERT INTO relay_duties AS d (duty, succeeded_at, patience_seconds, error)
        SELECT duty, now() - make_interval(secs => ago), patience, error
        FROM unnest($1::text[], $2::float8[], $3::float8[], $4::text[]) AS t (duty, ago, patience, error)
        ORDER BY duty
        ON CONFLICT (duty) DO UPDATE SET
            error = CASE WHEN EXCLUDED.succeeded_at >= d.succeeded_at THEN EXCLUDED.error ELSE d.error END,
            succeeded_at = greatest(d.succeeded_at, EXCLUDED.succeeded_at), told_at = now(),
            patience_seconds = EXCLUDED.patience_seconds
        """,
        [each.duty for each in told],
        [each.ago_seconds for each in told],
        [each.patience_seconds for each in told],
        [each.error for each in told],
    )
