"""How the connections of a pool plan their statements, and those that reach Postgres through a pgbouncer.

In its transaction pooling a server connection is ours for one transaction, and whatever outlives a transaction is not
used: named statements, settings of the session, its locks. (Nobody listens anyway.)
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import asyncpg
from asyncpg.transaction import Transaction


# A connection keeps the plans of its statements, and a plan may have been made while the tables were young, or nothing
# was due: reading the whole of a table, or of an index of what is open, looked cheap then. Every statement names rows
# by key and has an index for them, so it is to look them up one by one.
PLANS: Final = {"jit": "off", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

# What is due comes and goes faster than statistics, so to the planner it is often one row, which it would find by any
# index and sort. There is one way to go for any arguments; to plan anew for each costs as much as the claim itself.
CLAIM_PLANS: Final = {**PLANS, "enable_sort": "off", "plan_cache_mode": "force_generic_plan"}


def _set_local(plans: Mapping[str, str]) -> str:
    return "; ".join(f"SET LOCAL {name} = {value}" for name, value in plans.items())


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

    begins_with: ClassVar[str] = _set_local(PLANS)

    def transaction(self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False) -> Transaction:
        """As asyncpg's, with the settings; ``read_committed`` unless told otherwise, whatever the role's default is."""
        return _Begun(self, isolation or "read_committed", readonly, deferrable)


class InIndexOrder(Planned):
    """One for looks and claims. Where those are a statement of their own, they are in a transaction for their plan."""

    begins_with: ClassVar[str] = _set_local(CLAIM_PLANS)

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
