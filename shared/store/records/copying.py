"""Rows in the binary form of ``COPY``, put together from parts that most rows of a page have in common.

asyncpg encodes records value by value, which costs about twice as much. The form is the one that
https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format") describes.
"""

import struct
from collections.abc import AsyncIterator, Callable, Sequence

from shared.store.postgres import Connection
from shared.store.records.sighting import Row


CHUNK_ROWS = 250
"""So many rows are encoded at a time: meanwhile nothing else runs in the process."""

RECORD_COLUMNS = (
    *("provider", "account", "kind", "external_id", "digest", "data", "sealed"),
    *("began", "fetched_at", "changed_at", "deleted_at", "event_id"),
)
CHANGE_COLUMNS = ("provider", "account", "kind", "external_id", "op", "changed", "event_id")

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = struct.pack("!h", -1)
_NULL = struct.pack("!i", -1)
_EMPTY_TEXT_ARRAY = struct.pack("!iii", 0, 0, 25)  # no dimension, no null, of the type text
_JSONB_VERSION = 1
_size = struct.Struct("!i").pack
_jsonb = struct.Struct("!iB").pack


async def copy(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    encode: Callable[[Sequence[Row]], list[bytes]],
) -> None:
    """Append the rows, as ``encode`` makes them, to a table. Raises what Postgres says of them."""

    async def parts() -> AsyncIterator[bytes]:
        yield _HEADER
        for start in range(0, len(rows), CHUNK_ROWS):
            yield b"".join(encode(rows[start : start + CHUNK_ROWS]))
        yield _TRAILER

    await connection.copy_to_table(table, source=parts(), columns=columns, format="binary")


def records(rows: Sequence[Row], now: int) -> list[bytes]:
    """Parts of rows of ``RECORD_COLUMNS``; ``now`` in microseconds since the year 2000, as Postgres counts."""
    heads: dict[tuple[str, str, str], bytes] = {}
    tails: dict[tuple[object, ...], bytes] = {}
    time = _field(struct.pack("!q", now))
    parts: list[bytes] = []
    for (provider, account, kind, external_id), digest, sighting, _ in rows:
        head = heads.get((provider, account, kind))
        if head is None:
            head = heads[provider, account, kind] = _head(RECORD_COLUMNS, provider, account, kind)
        record, began, event_id = sighting.record, sighting.began, sighting.event_id
        tail = tails.get((began, record.deleted, event_id))
        if tail is None:
            tail = tails[began, record.deleted, event_id] = b"".join(
                (
                    _field(struct.pack("!q", began)),
                    time,
                    time,
                    time if record.deleted else _NULL,
                    _field(event_id.bytes if event_id else None),
                )
            )
        identity, data = external_id.encode(), (record.data or "{}").encode()
        parts += (
            *(head, _size(len(identity)), identity, _field(digest)),
            *(_jsonb(1 + len(data), _JSONB_VERSION), data, _field(record.sealed), tail),
        )
    return parts


def changes(rows: Sequence[Row]) -> list[bytes]:
    """Parts of rows of ``CHANGE_COLUMNS``: each record was created, or first seen as a tombstone."""
    heads: dict[tuple[str, str, str], bytes] = {}
    tails: dict[tuple[object, ...], bytes] = {}
    parts: list[bytes] = []
    for (provider, account, kind, external_id), _, sighting, _ in rows:
        head = heads.get((provider, account, kind))
        if head is None:
            head = heads[provider, account, kind] = _head(CHANGE_COLUMNS, provider, account, kind)
        deleted, event_id = sighting.record.deleted, sighting.event_id
        tail = tails.get((deleted, event_id))
        if tail is None:
            op = b"deleted" if deleted else b"created"
            tail = tails[deleted, event_id] = b"".join(
                (_field(op), _field(_EMPTY_TEXT_ARRAY), _field(event_id.bytes if event_id else None))
            )
        identity = external_id.encode()
        parts += (head, _size(len(identity)), identity, tail)
    return parts


def _head(columns: Sequence[str], *values: str) -> bytes:
    """How many columns a row has, and the first of them."""
    return struct.pack("!h", len(columns)) + b"".join(_field(value.encode()) for value in values)


def _field(value: bytes | None) -> bytes:
    return _NULL if value is None else _size(len(value)) + value
