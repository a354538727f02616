"""What keeps retention from removing what it should not: a clock that is wrong, a setting that was mistyped.

From round to round the moment before which things go moves on by as much as time does. Where it leaps, or is new, what
a round would remove is counted first; more than a tenth of what there is waits for a person.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from shared.store.postgres import Connection
from shared.store.retention import Walk, first_id


LEAP: Final = timedelta(days=1)
ALLOWED_FOR: Final = timedelta(days=7)
"""So much further a moment may move that was allowed, while the round that it is for comes to its end."""
SHARE: Final = 10
FEW_ROWS: Final = 100
"""So few go without a question, however little there is."""
SAMPLED_PAGES: Final = 2000
CLOCK: Final = Walk("", "", "clock")
BLOBS: Final = Walk("", "", "blobs")
CLOCKS_APART: Final = timedelta(hours=1)

_HOW: Final = "if that is right, `penstock retention allow` lets it go on"


class Share(NamedTuple):
    """How many rows a round would remove, and of how many, or of a sample of them."""

    goes: int
    of: int

    @property
    def is_much(self) -> bool:
        """Whether a person is to be asked."""
        return self.goes > FEW_ROWS and self.goes * SHARE > self.of


class Refusal(NamedTuple):
    """What is not removed, and why."""

    walk: Walk
    sentence: str


async def now(connection: Connection) -> datetime:
    """The moment, by Postgres's clock."""
    found: datetime = await connection.fetchval("SELECT now()")
    return found


async def clocks_agree(connection: Connection, theirs: datetime, ours: datetime) -> bool:
    """Whether this host's clock and Postgres's tell about the same time; one of them is wrong if not."""
    apart = abs(theirs - ours)
    if apart <= CLOCKS_APART:
        await _clear(connection, CLOCK)
        return True
    sentence = (
        f"the clocks of Postgres ({theirs:%Y-%m-%d %H:%M} UTC) and of the relay's host ({ours:%Y-%m-%d %H:%M} UTC) are"
        " more than an hour apart: nothing is removed until they agree; set the wrong one right"
    )
    await _refuse(connection, CLOCK, sentence, None)
    return False


async def may_remove(connection: Connection, walk: Walk, before: datetime, days: int) -> bool:
    """Whether a round may remove what is older than ``before``, inside the caller's transaction; its row is there."""
    row = await connection.fetchrow(
        """
        SELECT before_at, allowed_before, removed > 0 AS went_on, moved_at FROM retention
        WHERE provider = $1 AND account = $2 AND what = $3
        """,
        *walk,
    )
    assert row is not None  # noqa: S101 - the caller made it
    last: datetime | None = row["before_at"]
    if last is None and row["went_on"]:
        # what the version before removed; it did not note how far
        last = row["moved_at"] - timedelta(days=days)
    allowed = row["allowed_before"] is not None and before <= row["allowed_before"] + ALLOWED_FOR
    if not allowed and (last is None or before > last + LEAP):
        share = await _share(connection, walk, last, before)
        if share.is_much:
            sentence = (
                f"a round would remove {share.goes * 100 // share.of} % of {_WHAT[walk.what]}, all from before"
                f" {before:%Y-%m-%d}: nothing of it is removed. The settings of [retention] were shortened, the relay"
                f" stood still, or Postgres's clock is wrong; {_HOW}"
            )
            await _refuse(connection, walk, sentence, before)
            return False
    await connection.execute(
        """
        UPDATE retention SET before_at = $4, refused = NULL, refused_before = NULL
        WHERE provider = $1 AND account = $2 AND what = $3
        """,
        *walk,
        before,
    )
    return True


async def may_remove_found(connection: Connection, found: int) -> bool:
    """Whether so many objects may be removed that lie in the blob store without a row."""
    row = await connection.fetchrow(
        """
        SELECT listed, coalesce(allowed_before > now() - $4::interval, false) AS allowed
        FROM retention WHERE provider = $1 AND account = $2 AND what = $3
        """,
        *BLOBS,
        ALLOWED_FOR,
    )
    if row is None or not row["listed"]:
        # the first walk over the store has not come to its end: nobody knows how much a tenth is
        return False
    if row["allowed"] or not Share(found, row["listed"]).is_much:
        await _clear(connection, BLOBS)
        return True
    sentence = (
        f"{found:,} of {row['listed']:,} objects in the blob store have no row in this database: none of them is"
        f" removed. Another installation uses the same PENSTOCK_BLOB_URL, or a database was restored; {_HOW}"
    )
    moment = await now(connection)
    await _refuse(connection, BLOBS, sentence, moment)
    return False


async def store_seen_at(connection: Connection) -> datetime | None:
    """When the last whole walk over the blob store ended, which noted what has no row; None: none has."""
    found: datetime | None = await connection.fetchval(
        "SELECT round_at FROM retention WHERE provider = $1 AND account = $2 AND what = $3 AND listed > 0", *BLOBS
    )
    return found


async def refusals(connection: Connection) -> list[Refusal]:
    """All that are in force."""
    rows = await connection.fetch(
        "SELECT provider, account, what, refused FROM retention WHERE refused IS NOT NULL ORDER BY 1, 2, 3"
    )
    return [Refusal(Walk(row[0], row[1], row[2]), row[3]) for row in rows]


async def allow(connection: Connection, provider: str | None = None) -> Sequence[Walk]:
    """Let what was refused go on, all of it or a provider's; a wrong clock is nothing to be allowed."""
    rows = await connection.fetch(
        """
        UPDATE retention SET allowed_before = refused_before, refused = NULL, refused_before = NULL, round_at = 'epoch'
        WHERE refused IS NOT NULL AND refused_before IS NOT NULL AND ($1::text IS NULL OR provider = $1)
        RETURNING provider, account, what
        """,
        provider,
    )
    return sorted(Walk(*row) for row in rows)


_WHAT: Final = {
    "bodies": "the account's bodies",
    "images": "the account's images",
    "timeline": "the account's timelines",
    "events": "the account's events",
    "changes": "the provider's entries in the change feed",
    "deleted_records": "the provider's records",
}


async def _share(connection: Connection, walk: Walk, last: datetime | None, before: datetime) -> Share:
    """Of what is left after the round before this one: how much of it would go."""
    if walk.what in {"changes", "deleted_records"}:
        return await _sampled(connection, walk, last, before)
    beginning = first_id(last) if last else first_id(datetime.fromtimestamp(0, before.tzinfo))
    goes = await connection.fetchval(
        "SELECT count(*) FROM events WHERE provider = $1 AND account = $2 AND id >= $3 AND id < $4",
        walk.provider,
        walk.account,
        beginning,
        first_id(before),
    )
    of = await connection.fetchval(
        """
        SELECT count(*) FROM (SELECT FROM events WHERE provider = $1 AND account = $2 AND id >= $3 LIMIT $4) AS counted
        """,
        walk.provider,
        walk.account,
        beginning,
        goes * SHARE + 1,
    )
    return Share(goes, of)


async def _sampled(connection: Connection, walk: Walk, last: datetime | None, before: datetime) -> Share:
    """The same where no index leads to it: of so many pages of the table, or all where it has no more."""
    table, moment, left = ("changes", "at", "at >= $2") if walk.what == "changes" else ("records", "deleted_at", "true")
    pages = await connection.fetchval("SELECT pg_relation_size($1::regclass) / 8192", table)
    row = await connection.fetchrow(
        f"""
        SELECT count(*) FILTER (WHERE {moment} >= $2 AND {moment} < $3) AS goes, count(*) FILTER (WHERE {left}) AS of
        FROM {table} TABLESAMPLE SYSTEM ($4) WHERE provider = $1
        """,  # noqa: S608 - constants
        walk.provider,
        last or datetime.fromtimestamp(0, before.tzinfo),
        before,
        min(100.0, 100.0 * SAMPLED_PAGES / max(1, pages)),
    )
    return Share(*row) if row else Share(0, 0)


async def _refuse(connection: Connection, walk: Walk, sentence: str, before: datetime | None) -> None:
    await connection.execute(
        """
        INSERT INTO retention AS r (provider, account, what, refused, refused_before) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (provider, account, what)
        DO UPDATE SET refused = EXCLUDED.refused, refused_before = EXCLUDED.refused_before
        """,
        *walk,
        sentence,
        before,
    )


async def _clear(connection: Connection, walk: Walk) -> None:
    await connection.execute(
        """
        UPDATE retention SET refused = NULL, refused_before = NULL
        WHERE provider = $1 AND account = $2 AND what = $3 AND refused IS NOT NULL
        """,
        *walk,
    )
