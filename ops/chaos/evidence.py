"""What the stores hold after a scenario, read past the application's own reading code."""

import hashlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from pydantic import SecretStr
from redis.exceptions import RedisError

from shared.blobs import BlobMissing, BlobStore
from shared.errors import PenstockError, StoreAway
from shared.private import open_record
from shared.redis_clients import open_redis
from shared.sealing import BrokenSeal, Keys
from shared.store.keys import look
from shared.store.postgres import connect_once


UNFINISHED = ("received", "processing", "waiting")
_BATCH = 100
_TOLD = 5
_SLACK_SECONDS = 0.5
_HEIR_SECONDS = 20.0
"""A fetch whose worker died may be merged into one that was asked for meanwhile; its row is gone then."""

_LONGEST = """
    SELECT coalesce(max(extract(epoch FROM finished_at - received_at)), 0)::float8 FROM events
    WHERE received_at >= to_timestamp($1)
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it is kept; ``sha256`` is the digest of the body as it can be read now, empty if it cannot."""

    id: str
    provider: str
    account: str
    state: str
    sha256: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the verdict asks the stores; doubles and unfinished events are told as sentences."""

    events: Sequence[Stored] = ()
    doubled_changes: Sequence[str] = ()
    fetched_again: Sequence[str] = ()
    broken_images: Sequence[str] = ()
    """What records refer to that is not there, or is not what they say."""
    unfinished: Sequence[str] = ()
    longest_seconds: float = 0.0
    """From the receipt of an event to its end, the longest of all."""


class Witness:
    """Reads one scenario's part of a database: what came in since ``start``."""

    def __init__(self, database_url: str, blob_url: str, key: str) -> None:
        self._url = database_url
        keys = Keys.parse([SecretStr(key)])
        self._keys = keys
        self._blobs = BlobStore.open(blob_url, keys)
        self._since = 0.0
        self._last_change = 0

    async def start(self) -> None:
        """What is there already is not this scenario's."""
        async with self._connected() as connection:
            self._since = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            self._last_change = await connection.fetchval("SELECT coalesce(max(id), 0) FROM changes")

    async def finished(self, receipts: Collection[str]) -> bool:
        """Whether every receipt is there, no event is unfinished and every change is numbered."""
        async with self._connected() as connection:
            finished: bool = await connection.fetchval(
                """
                SELECT (SELECT count(*) FROM events WHERE id = ANY($1)) = $2
                   AND NOT EXISTS (SELECT FROM events WHERE state = ANY($3))
                   AND NOT EXISTS (SELECT FROM changes WHERE seq IS NULL)
                """,
                [UUID(receipt) for receipt in receipts],
                len(receipts),
                UNFINISHED,
            )
            return finished

    async def read(self, calls: Sequence[Any]) -> Evidence:
        """All of it. ``calls`` are the lab's, of this scenario."""
        async with self._connected() as connection:
            return Evidence(
                await self._events(connection),
                await self._doubled_changes(connection),
                await self._fetched_again(connection, calls),
                await self._broken_images(connection),
                await _unfinished(connection),
                await connection.fetchval(_LONGEST, self._since - _SLACK_SECONDS),
            )

    async def _events(self, connection: "asyncpg.Connection[asyncpg.Record]") -> list[Stored]:
        found: list[Stored] = []
        await look(connection, self._keys)
        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(
                """
                SELECT id, provider, account, state, body, blob, error_reason, error_detail FROM events
                WHERE received_at >= to_timestamp($1) ORDER BY id
                """,
                self._since - _SLACK_SECONDS,
            )
            while rows := await cursor.fetch(_BATCH):
                found += [await self._stored(row) for row in rows]
        return found

    async def _stored(self, row: asyncpg.Record) -> Stored:
        error = ": ".join(filter(None, (row["error_reason"], row["error_detail"])))
        try:
            body = await self._body(row)
        except (BlobMissing, BrokenSeal) as unreadable:
            return Stored(str(row["id"]), row["provider"], row["account"], row["state"], "", str(unreadable))
        digest = hashlib.sha256(body).hexdigest()
        return Stored(str(row["id"]), row["provider"], row["account"], row["state"], digest, error)

    async def _body(self, row: asyncpg.Record) -> bytes:
        if row["blob"] is not None:
            return await self._blobs.read(row["blob"], row["id"])
        return self._keys.unseal(row["body"], row["id"])

    async def _doubled_changes(self, connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
        """Entries of the change feed that tell what was told before: a notification twice, or a change of nothing."""
        rows = await connection.fetch(
            """
            SELECT seq, op, ops_before[cardinality(ops_before)] AS op_before, changed, kind, external_id FROM (
                SELECT *, row_number() OVER record AS times,
                       array_agg(op) FILTER (WHERE op <> 'updated') OVER (
                           record ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                       ) AS ops_before
                FROM changes WINDOW record AS (PARTITION BY provider, account, kind, external_id ORDER BY seq)
            ) AS entries
            WHERE id > $1 AND (
                kind = 'imin.update-notification' AND times > 1
                OR op = 'updated' AND changed = '{}'
                OR op <> 'updated' AND op = ops_before[cardinality(ops_before)]
            )
            ORDER BY seq
            """,
            self._last_change,
        )
        return [
            f"change {row['seq']}: {row['kind']} {row['external_id']} is {row['op']} {row['changed']}"
            f" after {row['op_before']}"
            for row in rows
        ]

    async def _fetched_again(self, connection: "asyncpg.Connection[asyncpg.Record]", calls: Sequence[Any]) -> list[str]:
        """Calls that were answered although the fetch that they belong to had finished and nobody asked anew."""
        skew = time.time() - await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        rows = await connection.fetch(
            """
            SELECT provider, path, extract(epoch FROM created_at)::float8 AS created,
                   extract(epoch FROM finished_at)::float8 AS finished
            FROM fetches WHERE created_at >= to_timestamp($1)
            """,
            self._since - _SLACK_SECONDS,
        )
        lives: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for row in rows:
            end = row["finished"] + _SLACK_SECONDS if row["finished"] is not None else float("inf")
            lives[row["provider"], row["path"]].append((row["created"] - _HEIR_SECONDS, end))
        return [
            f"call {call['number']}: {call['provider']} {call['path']} was fetched again after it had finished"
            for call in calls
            if call["outcome"] == "ok"
            and (spans := lives.get((call["provider"], call["path"])))
            and not any(created <= call["at"] - skew <= end for created, end in spans)
        ]

    async def _broken_images(self, connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
        """The images of records that were written in this scenario and cannot be read as they were delivered."""
        rows = await connection.fetch(
            """
            SELECT provider, account, kind, external_id, data::text, sealed FROM records
            WHERE kind = 'authenteq.verification' AND changed_at >= to_timestamp($1) ORDER BY external_id
            """,
            self._since - _SLACK_SECONDS,
        )
        records = [orjson.loads(open_record(self._keys, *row)) for row in rows]
        images = [image for record in records for image in record.get("images", {}).values()]
        return [
            f"image {image['blob']} {fault}"
            for image in images
            if (fault := await self._fault_of_image(image["blob"], image["sha256"]))
        ]

    async def _fault_of_image(self, blob: str, sha256: str) -> str:
        """What is wrong with an image; empty where nothing is. Its key ends with its event's id and its own name."""
        try:
            content = await self._blobs.read(blob, UUID(blob.split("/")[-2]))
        except (BlobMissing, BrokenSeal) as unreadable:
            return f"cannot be read: {unreadable}"
        return "" if hashlib.sha256(content).hexdigest() == sha256 else "is not what was delivered"

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        connection = await connect_once(self._url)
        try:
            yield connection
        finally:
            connection.terminate()


async def _unfinished(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    """The first of the events that are not finished, with what their fetches wait for."""
    rows = await connection.fetch(
        """
        SELECT e.id, e.provider, e.state, e.durability, e.claimed_by, f.id AS fetch, f.state AS fetch_state, f.attempts,
               f.error_reason, f.error_detail, f.claimed_by AS fetch_claimed_by,
               round(extract(epoch FROM f.due_at - now())::numeric, 1) AS due,
               round(extract(epoch FROM coalesce(f.queue_at, e.queue_at) - now())::numeric, 1) AS queue
        FROM events e LEFT JOIN event_fetches l ON l.event_id = e.id
        LEFT JOIN fetches f ON f.id = l.fetch_id AND f.state IN ('pending', 'running', 'waiting')
        WHERE e.state = ANY($1) AND (f.id IS NOT NULL OR e.state = 'received') ORDER BY e.id LIMIT $2
        """,
        UNFINISHED,
        _TOLD,
    )
    return [
        f"{row['provider']} event {row['id']} is {row['state']} (claimed by {row['claimed_by']}), queued again in"
        f" {row['queue']} s; fetch {row['fetch']} {row['fetch_state']}, due in {row['due']} s, attempts"
        f" {row['attempts']}, claimed by {row['fetch_claimed_by']}, {row['error_reason']}: {row['error_detail']}"
        for row in rows
    ]


class NotEmpty(PenstockError):
    """The given servers hold something; chaos wants them for itself."""


async def refuse_what_holds_keys(redis_url: str) -> None:
    """Raises NotEmpty when the Redis database holds anything, StoreAway when it does not answer."""
    try:
        async with open_redis(redis_url, seconds=5) as client:
            if keys := await client.dbsize():
                raise NotEmpty(f"this Redis database holds {keys} keys: chaos empties it, so name one that is empty")
    except (RedisError, OSError) as error:
        raise StoreAway(f"Redis does not answer: {error}") from None


async def refuse_what_holds_events(database_url: str) -> None:
    """Raises NotEmpty when the database holds events, StoreAway when it does not answer."""
    connection = await connect_once(database_url)
    try:
        if await connection.fetchval("SELECT to_regclass('events')") and await connection.fetchval(
            "SELECT EXISTS (SELECT FROM events)"
        ):
            raise NotEmpty(
                "this database holds events: chaos kills, floods and empties what it is given, so name a database that"
                " was made for it"
            )
    finally:
        await connection.close()
