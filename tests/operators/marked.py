"""A store filled with marked data of two customers, as ingress and workers would have filled it."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from pydantic import SecretStr
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from shared.blobs import BlobStore
from shared.private import seal_record
from shared.providers.interface import Call, Record
from shared.providers.registry import PROVIDERS
from shared.sealing import Keys
from shared.spool import BYTES, SPOOL, pack
from shared.store import keys as data_keys
from shared.store import opening
from shared.store.inbox import NewEvent, insert
from shared.store.records import recording
from shared.store.records.numbering import number_changes
from shared.store.records.sighting import Sighting


class Marked:
    """Fills one account of a provider; ``key`` is a setting's text."""

    def __init__(self, url: str, redis_url: str, data: Path, key: str, provider: str, account: str) -> None:
        self.url = url
        self.redis_url = redis_url
        self.keys = Keys.parse([SecretStr(key)])
        self.blobs = BlobStore.open((data / "blobs").as_uri(), self.keys)
        self.account = (provider, account)

    def fill(
        self, subject: str, content: dict[str, Any], record: Record, *, blob: bool = False, spooled: bool = False
    ) -> UUID:
        """A delivery about the subject with its timeline, fetch, identity, record, change, hand-over and blob."""
        return asyncio.run(self._fill(subject, content, record, blob=blob, spooled=spooled))

    async def _fill(self, subject: str, content: dict[str, Any], record: Record, *, blob: bool, spooled: bool) -> UUID:
        provider, account = self.account
        connection = await asyncpg.connect(self.url)
        try:
            await data_keys.look(connection, self.keys)
            await data_keys.reserve(connection, self.keys, [self.account])
            event, body = uuid7(), json.dumps(content).encode()
            digest = hashlib.sha256(body).digest()
            sealed: bytes | None = self.keys.seal(body, event, self.account)
            key = None
            if blob:
                key, sealed = f"bodies/2026-11-21/{event}", None
                await self.blobs.put(key, body, event, self.account)
            if PROVIDERS[provider].privacy.images:
                await self.blobs.put(f"{provider}/{account}/{event}/face", b"a face", event, self.account)
            now = datetime.now(UTC)
            row = NewEvent(
                event, provider, account, now, "postgres", "application/json", [], sealed, key, len(body), digest
            )
            if spooled:
                await self._spool(row._replace(id=uuid7(), body=self.keys.seal(body, event, self.account)), event)
            async with connection.transaction():
                await insert(connection, [row])
                path = f"/v1/customers/{subject}"
                call = opening.Wanted(provider, account, Call(path, "thing"), [event])
                await opening.open_fetches(connection, opening.by_resource([call]), 0.0)
                await connection.execute(
                    "INSERT INTO timeline (event_id, step, detail) VALUES ($1, 'fetched', $2)",
                    event,
                    f"GET {path}: 200",
                )
                await connection.execute(
                    "INSERT INTO identities VALUES ($1, $2, $3, $4)", provider, account, f"{event}", event
                )
                await connection.execute(
                    "UPDATE events SET state = 'done', finished_at = now(), identity = $2 WHERE id = $1",
                    event,
                    f"{event}",
                )
                kept = seal_record(self.keys, provider, account, PROVIDERS[provider].privacy, record)
                await recording.apply(connection, [Sighting(provider, account, kept, 1, event)])
            await number_changes(connection)
            await connection.execute(
                """
                INSERT INTO handovers (handler, change_id, seq, lane, state, error_detail)
                SELECT 'crm', id, seq, id, 'done', $1 FROM changes WHERE event_id = $2
                """,
                f"about {subject}",
                event,
            )
            return event
        finally:
            await connection.close()

    async def _spool(self, event: NewEvent, sealed_for: UUID) -> None:
        packed = pack(event._replace(id=sealed_for))
        async with Redis.from_url(self.redis_url) as redis:
            await redis.xadd(SPOOL, {b"event-1": packed})
            await redis.incrby(BYTES, len(packed) + 207)


def everything(url: str) -> str:
    """Every row of every table as text."""

    async def read() -> str:
        connection = await asyncpg.connect(url)
        try:
            tables = await connection.fetch(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
            )
            texts = [
                row[0]
                for table in tables
                for row in await connection.fetch(f'SELECT x::text FROM "{table[0]}" x')  # noqa: S608 - tables' names
            ]
            return "\n".join(texts)
        finally:
            await connection.close()

    return asyncio.run(read())


def files_with(folder: Path, marks: Sequence[bytes]) -> list[Path]:
    """The files under a folder that hold one of the marks, without the write-ahead log, which is written over."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and "pg_wal" not in path.parts
        and any(mark in content for content in [path.read_bytes()] for mark in marks)
    ]


def text_of(data: dict[str, Any]) -> str:
    """As a provider's answer has it."""
    return msgspec.json.encode(data).decode()
