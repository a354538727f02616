"""What the relay says of its settings while they are not in force as the file has them, for `penstock check`."""

from datetime import datetime

from shared.store.postgres import Connection


async def tell(connection: Connection, trouble: str | None) -> None:
    """Write down what is wrong with the settings, or that nothing is."""
    if trouble is None:
        await connection.execute("DELETE FROM settings_trouble")
        return
    await connection.execute(
        """
        INSERT INTO settings_trouble (said) VALUES ($1)
        ON CONFLICT (single) DO UPDATE SET said = excluded.said, since = now()
        """,
        trouble,
    )


async def told(connection: Connection) -> tuple[str, datetime] | None:
    """What the relay has written down about its settings, and since when."""
    row = await connection.fetchrow("SELECT said, since FROM settings_trouble")
    return (row["said"], row["since"]) if row else None
