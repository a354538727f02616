"""Several databases at once, for benches that run side by side."""

import asyncio
import uuid

import asyncpg

from ops.embedded.postgres import Postgres


def copies(server: Postgres, template: str, number: int) -> list[str]:
    """The URLs of so many fresh copies of the template."""
    names = [f"test_{uuid.uuid4().hex}" for _ in range(number)]

    async def create() -> None:
        connection = await asyncpg.connect(server.url)
        try:
            for name in names:
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        finally:
            await connection.close()

    asyncio.run(create())
    return [f"{server.url.rpartition('/')[0]}/{name}" for name in names]
