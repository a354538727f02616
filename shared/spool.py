"""The spool: a Redis stream of whole sealed events, filled by ingress while Postgres is away, emptied by the relay.

An entry holds every field of a ``NewEvent`` as one MessagePack array in the field ``event-1``; a change of its shape is
a new field name. Entries are deleted after the commit that kept their events, so whatever happens in between comes
again under the same id. What cannot be kept goes to a second stream, with the reason beside it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError, ResponseError, WatchError

from shared.errors import StoreAway
from shared.store.inbox import NewEvent


SPOOL: Final = "penstock:spool"
ASIDE: Final = "penstock:spool:aside"
BYTES: Final = "penstock:spool:bytes"
"""How much the spool holds. MEMORY USAGE only samples a stream's oldest nodes, so entries are counted one by one."""

LIMIT_BYTES: Final = 512 * 1024 * 1024
"""Ten minutes of 200 events of 4 KiB a second. Beyond it, or beyond half of Redis's maxmemory, spooling is refused:
the other half belongs to the queues, without which nothing is followed up once Postgres is back."""

FIT_SECONDS: Final = 0.5
"""How long what a check found is relied on. A Redis that writes to disk with every command answers one after the other
of them: to ask before each append would double how long an append takes."""

_FIELD: Final = b"event-1"
_ERASED_AT_ONCE: Final = 200

_ANEW_MOST: Final = 1_000
_ANEW: Final = """
local held = redis.call('XLEN', KEYS[1])
if held == 0 or held > tonumber(ARGV[1]) then return 0 end
local newest
local about = redis.call('XINFO', 'STREAM', KEYS[1])
for place = 1, #about, 2 do
    if about[place] == 'last-generated-id' then newest = about[place + 1] end
end
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
redis.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end
redis.call('XSETID', KEYS[1], newest)
return held
"""
"""Writes a stream anew: what was deleted stays in memory and files for as long as something is left that Redis packed
with it. A spool that holds more is being drained, and forgets with that."""

_ENTRY_BYTES: Final = 200
"""What an entry costs besides its fields."""

_REPLICAS_SHARE: Final = 0.25
"""How much of the time for an append replicas have: they take it into memory at once, a disk may need a second."""

_unpacker = msgspec.msgpack.Decoder(NewEvent)


class SpoolRefused(StoreAway):
    """Redis answers, but an event in it would not be safe: no append-only file, keys that are evicted, no room."""


class Entry(NamedTuple):
    """One entry as it was found; ``event`` is None where it is not to be understood, and ``fault`` says why."""

    id: bytes
    fields: Mapping[bytes, bytes]
    event: NewEvent | None
    fault: str


class Spool:
    """The stream. Every method raises StoreAway when Redis does not answer.

    ``replicas``: how many of them must hold an event too, where one of them may become the primary at any moment.
    """

    def __init__(self, redis: Redis, *, replicas: int = 0) -> None:
        self._redis = redis
        self._replicas = replicas
        self._has_waitaof = True
        self._fit_until = float("-inf")
        self._room = 0
        """Bytes that the last check found free, less what was appended since."""

    async def check(self, more_bytes: int = _ENTRY_BYTES) -> None:
        """Return if this many bytes would be safe here and have room. Raises SpoolRefused."""
        self._fit_until = float("-inf")
        with _asking():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.info("persistence")
            pipeline.info("memory")
            pipeline.get(BYTES)
            pipeline.info("replication")
            persistence, memory, held, replication = await pipeline.execute()
        if not int(persistence.get("aof_enabled", 0)):
            raise SpoolRefused("Redis has no append-only file (appendonly no): a crash would lose what it holds")
        if int(replication.get("connected_slaves", 0)) < self._replicas:
            raise SpoolRefused("no replica follows this Redis: a failover would lose what it alone holds")
        maxmemory = int(memory.get("maxmemory", 0))
        if maxmemory and str(memory.get("maxmemory_policy", "")).startswith("allkeys"):
            raise SpoolRefused(f"Redis may evict any key (maxmemory-policy {memory['maxmemory_policy']})")
        if maxmemory and int(memory["used_memory"]) >= maxmemory:
            raise SpoolRefused(f"Redis is full: its maxmemory is {maxmemory} bytes")
        limit = min(LIMIT_BYTES, maxmemory // 2) if maxmemory else LIMIT_BYTES
        if int(held or 0) + more_bytes > limit:
            raise SpoolRefused(f"the spool is full: {limit} bytes")
        self._room = limit - int(held or 0)
        self._fit_until = time.monotonic() + FIT_SECONDS

    async def append(self, events: Sequence[NewEvent], wait_seconds: float) -> bool:
        """Append the events, all or none acknowledged; returns whether WAITAOF proved that the disk has them.

        Where the server has no WAITAOF (before Redis 7.2) they are as safe as its ``appendfsync`` makes them.
        Raises SpoolRefused; some may have been appended all the same.
        """
        packed: list[dict[Any, Any]] = [{_FIELD: pack(event)} for event in events]
        weight = sum(map(_weight, packed))
        if weight > self._room or time.monotonic() >= self._fit_until:
            await self.check(weight)
        self._room -= weight
        try:
            return await self._put(packed, weight, wait_seconds)
        except BaseException:
            # Whatever it was that failed, the next batch asks first.
            self._fit_until = float("-inf")
            raise

    async def _put(self, packed: Sequence[dict[Any, Any]], weight: int, wait_seconds: float) -> bool:
        with _asking():
            pipeline = self._redis.pipeline(transaction=False)
            for fields in packed:
                pipeline.xadd(SPOOL, fields)
            pipeline.incrby(BYTES, weight)
            # Another batch may learn meanwhile that there is no such command.
            asked = self._has_waitaof
            if self._replicas:
                pipeline.execute_command("WAIT", self._replicas, int(wait_seconds * 1000 * _REPLICAS_SHARE))
            if asked:
                pipeline.execute_command("WAITAOF", 1, 0, int(wait_seconds * 1000))
            answers = await pipeline.execute(raise_on_error=False)
        on_disk = answers.pop() if asked else None
        held_by = answers.pop() if self._replicas else 0
        for answer in answers:
            if isinstance(answer, Exception):
                # Out of memory, READONLY after a failover, MISCONF: it speaks, and does not take it.
                if isinstance(answer, ReadOnlyError):
                    # The name may lead to another server by now; these connections do not.
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                raise SpoolRefused(f"Redis refuses the spool: {answer}")
        if isinstance(held_by, Exception) or held_by < self._replicas:
            raise SpoolRefused(f"no replica of Redis took the events in time, a failover would lose them ({held_by})")
        return self._is_on_disk(on_disk)

    def _is_on_disk(self, told: Any) -> bool:
        """What WAITAOF's answer means; None is that it was not asked. Raises SpoolRefused."""
        if isinstance(told, NoPermissionError) or (isinstance(told, ResponseError) and "unknown command" in str(told)):
            self._has_waitaof = False
            return False
        if isinstance(told, Exception):
            raise SpoolRefused(f"Redis refuses WAITAOF: {told}")
        if told is not None and int(told[0]) < 1:
            raise SpoolRefused("the disk of Redis did not take the events in time")
        return told is not None

    async def read(self, limit: int) -> list[Entry]:
        """The oldest entries."""
        with _asking():
            found: Any = await self._redis.xrange(SPOOL, count=limit)
            if not found:
                await self._forget_count()
        return [_entry(entry_id, fields) for entry_id, fields in found]

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Delete entries whose events are committed; another relay may have done so already."""
        if not entries:
            return
        with _asking():
            pipeline = self._redis.pipeline(transaction=False)
            for entry in entries:
                pipeline.xdel(SPOOL, entry.id)
            removed = await pipeline.execute()
            await self._redis.decrby(
                BYTES, sum(_weight(entry.fields) for entry, gone in zip(entries, removed, strict=True) if gone)
            )

    async def set_aside(self, entry: Entry, reason: str) -> None:
        """Move an entry out of the way, whole, with the reason."""
        with _asking():
            pipeline = self._redis.pipeline(transaction=True)
            fields: dict[Any, Any] = {**entry.fields, b"reason": reason.encode()}
            pipeline.xadd(ASIDE, fields)
            pipeline.xdel(SPOOL, entry.id)
            _, gone = await pipeline.execute()
            if gone:
                await self._redis.decrby(BYTES, _weight(entry.fields))

    async def erase(self, doomed: Callable[[NewEvent], bool], *, dry_run: bool = False) -> int:
        """Delete the entries of events that ``doomed`` picks, also those set aside; returns how many there are."""
        erased = 0
        for stream in (SPOOL, ASIDE):
            after = b"-"
            while True:
                with _asking():
                    found: Any = await self._redis.xrange(stream, min=after, count=_ERASED_AT_ONCE)
                entries = [_entry(entry_id, fields) for entry_id, fields in found]
                chosen = [entry for entry in entries if entry.event is not None and doomed(entry.event)]
                erased += len(chosen)
                if not dry_run:
                    await self._delete(stream, chosen)
                if len(found) < _ERASED_AT_ONCE:
                    break
                after = b"(" + found[-1][0]
        return erased

    async def blobs(self) -> set[str] | None:
        """The blobs that entries name, also those set aside; None where an entry is not to be understood."""
        keys: set[str] = set()
        for stream in (SPOOL, ASIDE):
            after = b"-"
            while True:
                with _asking():
                    found: Any = await self._redis.xrange(stream, min=after, count=_ERASED_AT_ONCE)
                for entry in (_entry(entry_id, fields) for entry_id, fields in found):
                    if entry.event is None:
                        return None
                    if entry.event.blob is not None:
                        keys.add(entry.event.blob)
                if len(found) < _ERASED_AT_ONCE:
                    break
                after = b"(" + found[-1][0]
        return keys

    async def _delete(self, stream: str, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        with _asking():
            await self._redis.xdel(stream, *(entry.id for entry in entries))
            await self._redis.eval(_ANEW, 1, stream, _ANEW_MOST)
            if stream == SPOOL:
                await self._redis.decrby(BYTES, sum(_weight(entry.fields) for entry in entries))

    async def length(self) -> int:
        """How many events wait."""
        with _asking():
            return int(await self._redis.xlen(SPOOL))

    async def set_aside_length(self) -> int:
        """How many entries could not be kept and wait for a person."""
        with _asking():
            return int(await self._redis.xlen(ASIDE))

    async def _forget_count(self) -> None:
        """Nothing is held: a count that was left behind, by a process that died between two commands, is wrong."""
        if await self._redis.get(BYTES) is None:
            return
        async with self._redis.pipeline(transaction=True) as pipeline:
            await pipeline.watch(SPOOL)
            if not await pipeline.xlen(SPOOL):
                pipeline.multi()  # type: ignore[no-untyped-call]
                pipeline.delete(BYTES)
                try:
                    await pipeline.execute()
                except WatchError:
                    return


def pack(event: NewEvent) -> bytes:
    """The event as an entry holds it."""
    return msgspec.msgpack.encode(event)


def unpack(packed: bytes) -> NewEvent:
    """The event that was packed. Raises msgspec.MsgspecError."""
    return _unpacker.decode(packed)


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    if _FIELD not in fields:
        return Entry(entry_id, fields, None, f"it has no field {_FIELD.decode()}")
    try:
        return Entry(entry_id, fields, unpack(fields[_FIELD]), "")
    except msgspec.MsgspecError as error:
        return Entry(entry_id, fields, None, f"it is not an event: {error}")


def _weight(fields: Mapping[bytes, bytes]) -> int:
    return _ENTRY_BYTES + sum(len(name) + len(value) for name, value in fields.items())


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreAway(f"Redis does not answer: {str(error) or type(error).__name__}") from None
