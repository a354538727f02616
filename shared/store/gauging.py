"""Look-ups for figures that are shown all the time: each costs the same however many rows are finished."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.store.postgres import Connection


class WorkerProcess(NamedTuple):
    """A process whose lease is in force; ``failing_seconds`` since its first failure without a success since, or 0."""

    name: str
    failing_seconds: float


async def worker_processes(connection: Connection, lease_seconds: float) -> list[WorkerProcess]:
    """The processes whose lease is in force."""
    rows = await connection.fetch(
        """
        SELECT name, coalesce(extract(epoch FROM now() - failing_since), 0)::float8 AS failing_seconds
        FROM worker_processes WHERE beat_at > now() - make_interval(secs => $1)
        """,
        lease_seconds,
    )
    return [WorkerProcess(**row) for row in rows]


async def silent_accounts(
    connection: Connection, accounts: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], bool]:
    """Whether each (provider, account) was silent when it was last looked at; those never looked at are left out."""
    rows = await connection.fetch(
        """
        SELECT provider, account, warned FROM rhythms
        JOIN unnest($1::text[], $2::text[]) AS named (provider, account) USING (provider, account)
        """,
        [provider for provider, _ in accounts],
        [account for _, account in accounts],
    )
    return {(row["provider"], row["account"]): row["warned"] for row in rows}


async def handler_backlogs(connection: Connection, most: int) -> Mapping[str, tuple[float, int]]:
    """By handler: seconds since its oldest hand-over became due, and how many are parked, ``most`` at most."""
    rows = await connection.fetch(
        """
        SELECT name, (
            SELECT extract(epoch FROM greatest(now() - min(due_at), interval '0'))::float8 FROM handovers
            WHERE handler = name AND state IN ('pending', 'waiting')
        ) AS seconds, (
            SELECT count(*) FROM (
                SELECT FROM handovers WHERE handler = name AND state = 'parked' LIMIT $1
            ) AS parked
        ) AS parked
        FROM handlers
        """,
        most,
    )
    return {row["name"]: (row["seconds"] or 0.0, row["parked"]) for row in rows}
