"""How far each reconciliation has come, and the known things that it goes through."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from shared.store.postgres import Connection


GIVEN_UP_AT_ONCE: Final = 10
FORGOTTEN_AT_ONCE: Final = 10_000


class Tally(NamedTuple):
    """Counts of a walk: things looked at, missing here, differing, and for how many of them an event was made."""

    looked_at: int = 0
    missing: int = 0
    differing: int = 0
    repaired: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """The sum."""
        return Tally(*(mine + its for mine, its in zip(self, other, strict=True)))


class Walk(NamedTuple):
    """A walk under way; ``position`` (JSON values) is its walker's own, empty at the beginning."""

    id: int
    provider: str
    account: str
    since: datetime | None
    dry_run: bool
    position: Mapping[str, Any]
    tally: Tally
    resumed: bool


async def open_walk(
    connection: Connection, provider: str, account: str, since: datetime | None, *, dry_run: bool
) -> Walk:
    """The account's unfinished walk, if it covers what is asked for and began within a day; else a new one."""
    async with connection.transaction():
        unfinished = await connection.fetch(
            """
            SELECT * FROM reconciliations
            WHERE provider = $1 AND account = $2 AND finished_at IS NULL AND NOT dry_run AND NOT $4
              AND began_at > now() - interval '1 day' AND (since IS NULL OR since <= $3)
            ORDER BY id DESC LIMIT 1
            """,
            provider,
            account,
            since,
            dry_run,
        )
        rows = unfinished or await connection.fetch(
            "INSERT INTO reconciliations (provider, account, since, dry_run) VALUES ($1, $2, $3, $4) RETURNING *",
            provider,
            account,
            since,
            dry_run,
        )
    row = rows[0]
    await _give_up(connection, provider, account, row["id"], dry_run=dry_run)
    return Walk(
        row["id"],
        provider,
        account,
        row["since"],
        dry_run,
        msgspec.json.decode(row["position"]),
        Tally(row["looked_at"], row["missing"], row["differing"], row["repaired"]),
        resumed=bool(unfinished),
    )


async def finish(connection: Connection, walk: Walk) -> None:
    """The walk has seen everything; what it kept to compare with is no longer needed."""
    await connection.execute("UPDATE reconciliations SET finished_at = now() WHERE id = $1", walk.id)
    await _forget_sights(connection, walk.id)


async def _give_up(connection: Connection, provider: str, account: str, kept: int, *, dry_run: bool) -> None:
    """Forget the account's walks that nobody goes on with, and what one that has finished did not come to forget."""
    rows = await connection.fetch(
        """
        SELECT id, finished_at IS NULL AS unfinished FROM reconciliations
        WHERE provider = $1 AND account = $2 AND id <> $3 AND (finished_at IS NOT NULL OR dry_run = $4)
        ORDER BY id DESC LIMIT $5
        """,
        provider,
        account,
        kept,
        dry_run,
        GIVEN_UP_AT_ONCE,
    )
    for row in rows:
        await _forget_sights(connection, row["id"])
        if row["unfinished"]:
            await connection.execute("DELETE FROM reconciliations WHERE id = $1", row["id"])


async def _forget_sights(connection: Connection, walk: int) -> None:
    """A large account has a million of them: so many at a time."""
    while True:
        status = await connection.execute(
            """
            DELETE FROM reconciliation_sights
            WHERE ctid = ANY(ARRAY(SELECT ctid FROM reconciliation_sights WHERE reconciliation = $1 LIMIT $2))
            """,
            walk,
            FORGOTTEN_AT_ONCE,
        )
        if int(status.rpartition(" ")[2]) < FORGOTTEN_AT_ONCE:
            return


async def finished_since(connection: Connection, provider: str, account: str, moment: datetime) -> bool:
    """Whether a walk over everything began at or after a moment and came to its end."""
    found = await connection.fetchval(
        """
        SELECT true FROM reconciliations
        WHERE provider = $1 AND account = $2 AND began_at >= $3 AND finished_at IS NOT NULL AND NOT dry_run
          AND since IS NULL
        LIMIT 1
        """,
        provider,
        account,
        moment,
    )
    return bool(found)


async def known(
    connection: Connection, walk: Walk, kind: str, keeps: Sequence[str], after: str, limit: int
) -> list[tuple[str, Mapping[str, Any]]]:
    """Known things of a kind behind an external id: records, and what this walk has seen already, each with members."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (external_id) external_id, members FROM (
            (
                SELECT external_id, members, 1 AS side FROM reconciliation_sights
                WHERE reconciliation = $7 AND kind = $3 AND external_id > $4 ORDER BY external_id LIMIT $5
            ) UNION ALL (
                SELECT external_id, coalesce(
                    (SELECT jsonb_object_agg(key, data -> key) FROM unnest($6::text[]) AS key), '{}'), 2
                FROM records
                WHERE provider = $1 AND account = $2 AND kind = $3 AND external_id > $4 AND deleted_at IS NULL
                ORDER BY external_id LIMIT $5
            )
        ) AS both_sides ORDER BY external_id, side LIMIT $5
        """,
        walk.provider,
        walk.account,
        kind,
        after,
        limit,
        keeps,
        walk.id,
    )
    return [(row["external_id"], msgspec.json.decode(row["members"])) for row in rows]


async def not_seen(
    connection: Connection, walk: Walk, kind: str, keeps: Sequence[str], after: str, limit: int
) -> list[tuple[str, Mapping[str, Any]]]:
    """Records of a kind behind an external id that the complete list of this walk did not show, each with members."""
    rows = await connection.fetch(
        """
        SELECT external_id, coalesce(
            (SELECT jsonb_object_agg(key, data -> key) FROM unnest($6::text[]) AS key), '{}') AS members
        FROM records
        WHERE provider = $1 AND account = $2 AND kind = $3 AND external_id > $4 AND deleted_at IS NULL
          AND fetched_at < (SELECT began_at FROM reconciliations WHERE id = $7)
          AND NOT EXISTS (
              SELECT FROM reconciliation_sights s
              WHERE s.reconciliation = $7 AND s.kind = records.kind AND s.external_id = records.external_id
          )
        ORDER BY external_id LIMIT $5
        """,
        walk.provider,
        walk.account,
        kind,
        after,
        limit,
        keeps,
        walk.id,
    )
    return [(row["external_id"], msgspec.json.decode(row["members"])) for row in rows]
