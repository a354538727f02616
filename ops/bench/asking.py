"""Questions to a subject's database."""

import asyncio
from typing import Any, Final

import asyncpg


LOOK_SECONDS: Final = 0.5
"""Who waits for the end of work looks so often: a look is a connection and a query, which slow what they look at. When
the work ended is asked for afterwards."""


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
