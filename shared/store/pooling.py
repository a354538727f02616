"""Connections through a pgbouncer in transaction pooling, where a server connection is ours for one transaction.

Whatever outlives a transaction is not used then: named statements, settings of the session, its locks. (Nobody listens
anyway.)
"""

from typing import Any, ClassVar

import asyncpg
from asyncpg.transaction import Transaction


class Pooled(asyncpg.Connection):
    """A single connection; ``url`` is where a second one is made for a lock."""

    url: str


class _Begun(Transaction):
    """A transaction that begins with its settings."""

    _connection: "Planned"

    async def start(self) -> None:
        """Begin, and set what the direct connection has from its start."""
        outermost = not self._connection.is_in_transaction()
        await super().start()
        if not outermost:
            return
        try:
            await self._connection.execute(self._connection.begins_with)
        except BaseException:
            await self.rollback()
            raise


class Planned(asyncpg.Connection):
    """A connection of a pool: each of its transactions is planned as those of a direct connection are."""

    begins_with: ClassVar[str] = "SET LOCAL jit = off; SET LOCAL enable_seqscan = off"

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        """As asyncpg's, with the settings."""
        return _Begun(self, isolation, readonly, deferrable)


class InIndexOrder(Planned):
    """One for looks and claims. Where those are a statement of their own, they are in a transaction for their plan."""

    begins_with: ClassVar[str] = f"{Planned.begins_with}; SET LOCAL enable_sort = off"

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's, in a transaction."""
        if self.is_in_transaction():
            return await super().fetch(query, *args, **options)
        async with self.transaction():
            return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """The same."""
        if self.is_in_transaction():
            return await super().fetchrow(query, *args, **options)
        async with self.transaction():
            return await super().fetchrow(query, *args, **options)
