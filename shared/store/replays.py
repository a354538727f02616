"""Replays as rows: who asked for what and why, how far it has come, and what became of it.

A replay that was broken off goes on where it stopped when the same is asked for again: its place moves in the same
transaction as the rows that it changes.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from shared.errors import PenstockError
from shared.store.locking import alone
from shared.store.postgres import Connection
from shared.store.text import storable


What = Literal["events", "handovers"]


class UnderWay(PenstockError):
    """The same replay is running elsewhere at this moment."""


class Order(NamedTuple):
    """What an operator asks for. ``asked`` is what was typed: two orders that say the same are the same replay."""

    what: What
    asked: Mapping[str, Any]
    since: datetime | None
    until: datetime | None
    reason: str
    who: str


class Running(NamedTuple):
    """A replay under way; ``position`` is None at the beginning. ``until`` is when it was asked for, at the latest."""

    id: int
    since: datetime | None
    until: datetime
    reason: str
    who: str
    began_at: datetime
    position: Any
    resumed: bool

    @property
    def note(self) -> str:
        """What is written beside each row that it changes."""
        return f"{self.reason or 'no reason given'} (by {self.who})"


@asynccontextmanager
async def carried_out(connection: Connection, order: Order) -> AsyncIterator[Running]:
    """A new replay, or the same one that was broken off; unless the block raises, it is finished. Raises UnderWay."""
    async with alone(
        connection, "replay", order.what, msgspec.json.encode(order.asked, order="sorted").decode()
    ) as mine:
        if not mine:
            raise UnderWay("the same replay is running at this moment: `penstock replays list` shows it")
        run = await open_replay(connection, order)
        yield run
        await finish(connection, run.id)


async def open_replay(connection: Connection, order: Order) -> Running:
    """The unfinished replay of the same that moved within a day, else a new one."""
    asked = msgspec.json.encode(order.asked).decode()
    row = await connection.fetchrow(
        """
        SELECT * FROM replays
        WHERE finished_at IS NULL AND what = $1 AND asked = $2::jsonb AND moved_at > now() - interval '1 day'
        ORDER BY id DESC LIMIT 1
        """,
        order.what,
        asked,
    )
    resumed = row is not None
    if row is None:
        row = await connection.fetchrow(
            """
            INSERT INTO replays (what, asked, since, until, reason, who)
            VALUES ($1, $2::jsonb, $3, least($4, now()), $5, $6) RETURNING *
            """,
            order.what,
            asked,
            order.since,
            order.until,
            storable(order.reason),
            storable(order.who),
        )
    assert row is not None  # noqa: S101 - RETURNING gave it
    position = None if row["position"] is None else msgspec.json.decode(row["position"])
    return Running(row["id"], row["since"], row["until"], row["reason"], row["who"], row["began_at"], position, resumed)


async def move(connection: Connection, replay_id: int, position: object, outcomes: Mapping[str, int]) -> None:
    """Write down, within the caller's transaction, how far it has come and what became of the rows since."""
    await connection.execute(
        """
        UPDATE replays SET moved_at = now(), position = $2::jsonb, counts = counts || coalesce((
            SELECT jsonb_object_agg(key, value::bigint + coalesce((counts ->> key)::bigint, 0))
            FROM jsonb_each_text($3::jsonb)
        ), '{}')
        WHERE id = $1
        """,
        replay_id,
        msgspec.json.encode(position).decode(),
        msgspec.json.encode(outcomes).decode(),
    )


async def finish(connection: Connection, replay_id: int) -> None:
    """It has come to its end."""
    await connection.execute("UPDATE replays SET finished_at = now(), moved_at = now() WHERE id = $1", replay_id)
