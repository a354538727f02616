"""Fetches that are held because their account's circuit is open, and how they go on when it has closed."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from shared.providers.interface import Call
from shared.store.fetching import call_of
from shared.store.postgres import Connection
from shared.store.waiting import HELD


BATCH: Final = 2000

# Any fixed number but those of the other locks: it names the lock among all users of this database.
_LOCK: Final = 0x63697263

_HELD: Final = f"state = 'waiting' AND error_reason = '{HELD}'"


class HeldPurpose(NamedTuple):
    """One kind of call that is held: the one that has waited longest stands for all."""

    purpose: str
    call: Call


async def accounts(connection: Connection) -> Sequence[tuple[str, str]]:
    """The (provider, account) pairs of which anything is held: a step into the index each, however much it is."""
    rows = await connection.fetch(
        f"""
        WITH RECURSIVE held AS (
            (SELECT provider, account FROM fetches WHERE {_HELD} ORDER BY provider, account LIMIT 1)
            UNION ALL
            SELECT next.provider, next.account FROM held CROSS JOIN LATERAL (
                SELECT provider, account FROM fetches
                WHERE {_HELD} AND (provider, account) > (held.provider, held.account)
                ORDER BY provider, account LIMIT 1
            ) AS next
        )
        SELECT provider, account FROM held
        """  # noqa: S608 - put together from constants of this module
    )
    return [(row["provider"], row["account"]) for row in rows]


async def oldest(connection: Connection, provider: str, account: str) -> Call | None:
    """The call of an account that has been held longest."""
    row = await connection.fetchrow(
        f"SELECT * FROM fetches WHERE {_HELD} AND provider = $1 AND account = $2 ORDER BY id LIMIT 1",  # noqa: S608
        provider,
        account,
    )
    return None if row is None else call_of(row)


async def purposes(connection: Connection, provider: str, account: str) -> Sequence[HeldPurpose]:
    """Which kinds of calls of an account are held."""
    rows: Sequence[Any] = await connection.fetch(
        f"""
        SELECT DISTINCT ON (purpose) * FROM fetches WHERE {_HELD} AND provider = $1 AND account = $2
        ORDER BY purpose, id
        """,  # noqa: S608 - put together from constants of this module
        provider,
        account,
    )
    return [HeldPurpose(row["purpose"], call_of(row)) for row in rows]


async def release(
    connection: Connection, provider: str, account: str, purpose: str, first_seconds: float, step_seconds: float
) -> int:
    """Make a batch of what is held due, oldest first, ``step_seconds`` apart; returns how many there were.

    One process at a time, within the caller's transaction; 0 also when another one is at it.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
        return 0
    released: int = await connection.fetchval(
        f"""
        WITH next AS (
            SELECT id FROM fetches WHERE {_HELD} AND provider = $1 AND account = $2 AND purpose = $3
            ORDER BY id LIMIT $6 FOR UPDATE SKIP LOCKED
        ), turns AS (
            SELECT id, now() + make_interval(secs => $4 + $5 * (row_number() OVER (ORDER BY id) - 1)) AS turn FROM next
        ), released AS (
            UPDATE fetches f SET due_at = turn, queue_at = turn, error_reason = NULL, error_detail = NULL
            FROM turns WHERE f.id = turns.id RETURNING 1
        )
        SELECT count(*) FROM released
        """,  # noqa: S608 - put together from constants of this module
        provider,
        account,
        purpose,
        first_seconds,
        step_seconds,
        BATCH,
    )
    return released
