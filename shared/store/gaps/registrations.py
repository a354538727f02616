"""What a provider said of registered webhooks when they were last looked at. No URLs: they carry a secret."""

from collections.abc import Mapping

from shared.store.postgres import Connection


async def failures_before(connection: Connection, provider: str, account: str) -> Mapping[str, int]:
    """How often each registration had failed at the last look, by its id."""
    rows = await connection.fetch(
        "SELECT id, failures FROM registrations WHERE provider = $1 AND account = $2", provider, account
    )
    return {row["id"]: row["failures"] for row in rows}


async def keep(connection: Connection, provider: str, account: str, failures: Mapping[str, tuple[int, bool]]) -> None:
    """Replace what is known by what was seen now: failures, and whether it is disabled, by id."""
    async with connection.transaction():
        await connection.execute("DELETE FROM registrations WHERE provider = $1 AND account = $2", provider, account)
        await connection.execute(
            """
            INSERT INTO registrations (provider, account, id, failures, disabled)
            SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[], $5::bool[]) ON CONFLICT DO NOTHING
            """,
            provider,
            account,
            list(failures),
            [count for count, _ in failures.values()],
            [disabled for _, disabled in failures.values()],
        )
