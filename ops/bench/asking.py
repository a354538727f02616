"""Questions to a subject's database."""

import asyncio
from typing import Any

import asyncpg


def rows(database_url: str, query: str, *arguments: object) -> list[Any]:
    """All rows of a query, on a connection of its own."""

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(database_url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    return asyncio.run(ask())


def value(database_url: str, query: str, *arguments: object) -> Any:
    """The first column of the first row."""
    return rows(database_url, query, *arguments)[0][0]
