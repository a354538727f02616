"""The data keys in Postgres: one in use per account, wrapped by a master key, renewed long before its last use.

Uses are reserved in blocks, so that sealing never waits for Postgres; what a process reserved and did not use is lost.
"""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from shared.data_keys import KEY_BYTES, KEY_ID_BYTES
from shared.errors import StoreAway
from shared.sealing import BrokenSeal, Keys, Sealed, context_of
from shared.store.postgres import AWAY, Connection, connect_once


log = structlog.get_logger("penstock.keys")

Account = tuple[str, str]
"""Provider and name."""

MOST_USES: Final = 2**31
BLOCK_USES: Final = 2**20
LOOK_SECONDS: Final = 2.0
"""A fifth of the lease: what a process misses once it sees the next time."""

REWRAP_AT_ONCE: Final = 100


async def look(connection: Connection, keys: Keys) -> Mapping[bytes, str]:
    """Learn which data keys there are; returns those that cannot be opened, and why: a master key is missing."""
    asked_at = time.monotonic()
    rows = await connection.fetch(
        """
        SELECT id, provider, account, retired_at IS NULL AS current,
               CASE WHEN id <> ALL($1::bytea[]) THEN wrapped END AS wrapped
        FROM data_keys ORDER BY number
        """,
        keys.data.known(),
    )
    closed: dict[bytes, str] = {}
    for row in rows:
        if row["wrapped"] is not None:
            try:
                secret = keys.unseal(row["wrapped"], _context(row["provider"], row["account"], row["id"]))
            # Damaged, or wrapped by another installation's key: that account's alone, the others' are learned.
            except BrokenSeal as error:
                closed[row["id"]] = f"{row['provider']} {row['account']}: {error}"
                continue
            keys.data.add((row["provider"], row["account"]), row["id"], secret, asked_at)
    keys.data.seen([row["id"] for row in rows], [row["id"] for row in rows if row["current"]], asked_at)
    return closed


class _Content(NamedTuple):
    """What all rows have in common that were not added, retired or destroyed since; numbers are never given twice."""

    keys: int
    current: int
    newest: int
    numbers: int


async def _content(connection: Connection) -> _Content:
    """One row whatever there is: every process asks every two seconds, and mostly nothing has changed."""
    row = await connection.fetchrow(
        """
        SELECT count(*), count(*) FILTER (WHERE retired_at IS NULL), coalesce(max(number), 0),
               coalesce(sum(number), 0)::bigint
        FROM data_keys
        """
    )
    return _Content(*row or (0, 0, 0, 0))


async def reserve(connection: Connection, keys: Keys, accounts: Iterable[Account]) -> None:
    """See to it that this process may seal for these accounts; makes keys where there are none, and renews."""
    lacking = [account for account in accounts if keys.data.left(account) < BLOCK_USES // 2]
    if not lacking:
        return
    granted = [(account, await _reserve(connection, keys, account)) for account in lacking]
    await look(connection, keys)
    for account, key_id in granted:
        if keys.data.secret(key_id) is None:
            # wrapped by a master key that this process lacks: it seals with its own until it gets that one
            continue
        keys.data.grant(account, key_id, BLOCK_USES)


async def keep(
    database_url: str,
    keys: Keys,
    accounts: Callable[[], Collection[Account]],
    *,
    ready: asyncio.Event | None = None,
) -> None:
    """Look again and again until cancelled, and reserve for these accounts; a Postgres that is away is waited for.

    ``ready`` is set after the first time.
    """
    told: set[bytes] = set()
    known: _Content | None = None
    while True:
        try:
            connection = await connect_once(database_url)
            try:
                while True:
                    asked_at = time.monotonic()
                    content = await _content(connection)
                    if content == known:
                        keys.data.unchanged(asked_at)
                    else:
                        closed = await look(connection, keys)
                        for key_id in closed.keys() - told:
                            log.warning("a data key cannot be opened", reason=closed[key_id])
                        told |= closed.keys()
                        # What cannot be opened now may be wrapped anew, which the content does not show.
                        known = None if closed else content
                    await reserve(connection, keys, accounts())
                    if ready:
                        ready.set()
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                connection.terminate()
        except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
            log.warning("data keys cannot be looked at; trying again", reason=str(error) or type(error).__name__)
        await asyncio.sleep(LOOK_SECONDS)


async def retire(connection: Connection, account: Account) -> None:
    """Seal with it no more: the next use makes another."""
    await connection.execute(
        "UPDATE data_keys SET retired_at = now() WHERE provider = $1 AND account = $2 AND retired_at IS NULL", *account
    )


async def destroy_retired(connection: Connection, account: Account) -> int:
    """Destroy the account's keys that seal no more: what they sealed is gone wherever it lies. Returns how many."""
    status = await connection.execute(
        "DELETE FROM data_keys WHERE provider = $1 AND account = $2 AND retired_at IS NOT NULL", *account
    )
    return int(status.rpartition(" ")[2])


class Wrapped(NamedTuple):
    """How many data keys a master key wraps."""

    master: bytes
    keys: int


async def wrapped_by(connection: Connection) -> Sequence[Wrapped]:
    """Every master key that wraps a data key."""
    rows = await connection.fetch(
        "SELECT substring(wrapped FROM 2 FOR 8) AS master, count(*) AS keys FROM data_keys GROUP BY 1 ORDER BY 1"
    )
    return [Wrapped(row["master"], row["keys"]) for row in rows]


async def rewrap(connection: Connection, keys: Keys) -> int:
    """Wrap every data key anew that an older master key wraps, a hundred a transaction; returns how many.

    Those whose master key is not known are left as they are.
    """
    done, after = 0, b""
    while True:
        async with connection.transaction():
            rows = await connection.fetch(
                """
                SELECT id, provider, account, wrapped FROM data_keys
                WHERE id > $1 ORDER BY id LIMIT $2 FOR UPDATE
                """,
                after,
                REWRAP_AT_ONCE,
            )
            for row in rows:
                held = Sealed.of(row["wrapped"])
                if held is None or held.key_id == keys.newest or held.key_id not in keys.by_id:
                    continue
                context = _context(row["provider"], row["account"], row["id"])
                wrapped = keys.seal(keys.unseal(row["wrapped"], context), context)
                await connection.execute("UPDATE data_keys SET wrapped = $2 WHERE id = $1", row["id"], wrapped)
                done += 1
        if len(rows) < REWRAP_AT_ONCE:
            return done
        after = rows[-1]["id"]


async def _reserve(connection: Connection, keys: Keys, account: Account) -> bytes:
    """The id of the key in use, with a block of its uses taken."""
    while True:
        found: bytes | None = await connection.fetchval(
            """
            UPDATE data_keys SET uses = uses + $3
            WHERE provider = $1 AND account = $2 AND retired_at IS NULL AND uses <= $4 RETURNING id
            """,
            *account,
            BLOCK_USES,
            MOST_USES - BLOCK_USES,
        )
        if found is not None:
            return found
        key_id = os.urandom(KEY_ID_BYTES)
        wrapped = keys.seal(os.urandom(KEY_BYTES), _context(*account, key_id))
        async with connection.transaction():
            await connection.execute(
                """
                UPDATE data_keys SET retired_at = now()
                WHERE provider = $1 AND account = $2 AND retired_at IS NULL AND uses > $3
                """,
                *account,
                MOST_USES - BLOCK_USES,
            )
            # of two processes that make one at the same time the first one's stays
            await connection.execute(
                """
                INSERT INTO data_keys (id, provider, account, wrapped) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
                """,
                key_id,
                *account,
                wrapped,
            )


def _context(provider: str, account: str, key_id: bytes) -> UUID:
    return context_of("data key", provider, account, key_id.hex())
