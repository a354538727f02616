"""Finding a change by what people have in hand: its place in the feed, or the id that a receiver was sent."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from shared.errors import PenstockError
from shared.store.handovers.message_ids import LARGEST_NUMBER, block_of, number_in


if TYPE_CHECKING:
    from asyncpg import Record

    from shared.store.postgres import Connection


class ChangeMissing(PenstockError):
    """There is no such change; the sentence says whether there was one."""


async def find_change(connection: "Connection", named: str) -> int:
    """The number of the change with this seq, or this id (``chg_`` and 32 hexadecimal digits). Raises ChangeMissing.

    A step into an index: the number is in the id, and the ids that come from marks have an index of their own.
    """
    row = await (_by_seq(connection, int(named)) if named.isdecimal() else _by_id(connection, named))
    if row["seq"] is None:
        raise ChangeMissing(f"the change {named} has no place in the feed yet: ask again in a moment")
    number: int = row["id"]
    return number


async def places_of(connection: "Connection", names: Sequence[str]) -> list[int]:
    """The places in the feed of these changes, each once. Raises ChangeMissing."""
    numbers = [await find_change(connection, name) for name in names]
    rows = await connection.fetch("SELECT seq FROM changes WHERE id = ANY($1::bigint[]) ORDER BY seq", numbers)
    return [row["seq"] for row in rows]


async def _by_seq(connection: "Connection", seq: int) -> "Record":
    row = None
    if seq <= LARGEST_NUMBER:
        row = await connection.fetchrow("SELECT id, seq FROM changes WHERE seq = $1", seq)
    if row is None:
        raise ChangeMissing(f"there is no change {seq} in the feed, or it is not kept any more")
    return row


async def _by_id(connection: "Connection", text: str) -> "Record":
    block = block_of(text)
    if block is None:
        raise ChangeMissing(f"{text} is neither a place in the feed nor the id of a change")
    key = await connection.fetchval("SELECT key FROM installation")
    if (number := number_in(block, key)) is not None:
        return await connection.fetchrow("SELECT id, seq FROM changes WHERE id = $1", number) or _gone(text)
    # a mark has twice the bytes of an id
    marks = (block + bytes(len(block)), block + b"\xff" * len(block))
    row = await connection.fetchrow(
        "SELECT id, seq FROM changes WHERE mark BETWEEN $1 AND $2 ORDER BY mark, id DESC LIMIT 1", *marks
    )
    if row is not None:
        return row
    if await connection.fetchval("SELECT true FROM once_marks WHERE mark BETWEEN $1 AND $2 LIMIT 1", *marks):
        _gone(text)
    raise ChangeMissing(f"no change of this installation has the id {text}")


def _gone(text: str) -> NoReturn:
    raise ChangeMissing(f"the change {text} is not kept any more")
