"""Which accounts were in force once, and which were removed since: what all processes go by when a file is away.

Names alone. A process that has an account in its settings writes it down; `penstock accounts remove` notes that it is
to be gone, and so does a process whose file says that what it lacks is removed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg
import structlog

from shared.errors import StoreAway
from shared.store.postgres import AWAY, Connection, connect_once
from shared.watching import Account, Known


if TYPE_CHECKING:
    from shared.watching import ConfigurationWatch

log = structlog.get_logger("penstock.configuration")

Tell: TypeAlias = Callable[[Connection, str | None], Awaitable[None]]
"""Takes a sentence, or None when nothing is wrong."""

LOOK_SECONDS: Final = 2.0

MOST_COUNTED: Final = 10_000


async def look(connection: Connection) -> Known:
    """Everything that is written down."""
    rows = await connection.fetch("SELECT provider, account, removed_at IS NOT NULL AS removed FROM known_accounts")
    return Known(
        frozenset((row["provider"], row["account"]) for row in rows),
        frozenset((row["provider"], row["account"]) for row in rows if row["removed"]),
    )


async def note(connection: Connection, accounts: Collection[Account], asked_at: datetime) -> None:
    """Write down that these are in force; one that was removed before ``asked_at`` is there again."""
    await connection.execute(
        """
        INSERT INTO known_accounts (provider, account)
        SELECT * FROM unnest($1::text[], $2::text[]) AS mine (provider, account) ORDER BY 1, 2
        ON CONFLICT (provider, account) DO UPDATE SET removed_at = NULL WHERE known_accounts.removed_at < $3
        """,
        *_columns(accounts),
        asked_at,
    )


async def note_work(connection: Connection, accounts: Collection[Account]) -> None:
    """Write down that there is work for these, which no settings name."""
    await connection.execute(
        """
        INSERT INTO known_accounts (provider, account)
        SELECT * FROM unnest($1::text[], $2::text[]) AS mine (provider, account) ORDER BY 1, 2 ON CONFLICT DO NOTHING
        """,
        *_columns(accounts),
    )


async def remove(connection: Connection, account: Account) -> None:
    """Note that the account is to be gone, wherever the settings do not name it."""
    await connection.execute(
        """
        INSERT INTO known_accounts (provider, account, removed_at) VALUES ($1, $2, now())
        ON CONFLICT (provider, account) DO UPDATE SET removed_at = now()
        """,
        *account,
    )


async def remove_others(connection: Connection, accounts: Collection[Account]) -> None:
    """Note that every account but these is to be gone."""
    await connection.execute(
        """
        UPDATE known_accounts SET removed_at = now()
        WHERE removed_at IS NULL AND (provider, account) NOT IN (SELECT * FROM unnest($1::text[], $2::text[]))
        """,
        *_columns(accounts),
    )


async def unfinished(connection: Connection, account: Account) -> int:
    """How many events of the account are not finished, up to ``MOST_COUNTED``."""
    return int(
        await connection.fetchval(
            """
            SELECT count(*) FROM (
                SELECT FROM events
                WHERE provider = $1 AND account = $2 AND state IN ('received', 'processing', 'waiting') LIMIT $3
            ) AS open_ones
            """,
            *account,
            MOST_COUNTED,
        )
    )


async def keep(
    database_url: str, watch: "ConfigurationWatch", *, ready: asyncio.Event | None = None, tell: Tell | None = None
) -> None:
    """Write down and look, whenever that may tell something new, until cancelled; waits for a Postgres that is away.

    ``ready`` is set after the first time. ``tell`` writes down what is wrong with the settings.
    """
    told: str | None = ""
    while True:
        trouble = watch.trouble if tell else told
        if watch.uncertain or trouble != told:
            try:
                connection = await connect_once(database_url)
                try:
                    await _exchange(connection, watch)
                    if tell:
                        await tell(connection, trouble)
                        told = trouble
                finally:
                    connection.terminate()
                if ready:
                    ready.set()
            except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
                log.debug("the known accounts cannot be looked at", reason=str(error) or type(error).__name__)
        await asyncio.sleep(LOOK_SECONDS)


async def _exchange(connection: Connection, watch: "ConfigurationWatch") -> None:
    """Learn what the others told, and tell what this process has in force."""
    asked_at: datetime = await connection.fetchval("SELECT now()")
    watch.learn(await look(connection))
    # What was read before, perhaps by the process that this one was forked from, may be older than a removal.
    await asyncio.to_thread(watch.refresh)
    seen, doubted = watch.take_unnoted()
    certain = watch.in_file if watch.problem is None else frozenset()
    try:
        await note(connection, seen & certain, asked_at)
        await note_work(connection, (seen | doubted) - certain)
        if seen and watch.removes_by_file:
            await remove_others(connection, watch.in_file)
        watch.learn(await look(connection))
    except BaseException:
        watch.put_back(seen)
        raise


def _columns(accounts: Collection[Account]) -> Sequence[list[str]]:
    ordered = sorted(accounts)
    return [provider for provider, _ in ordered], [name for _, name in ordered]
