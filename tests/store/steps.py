"""The flow's store steps in the short form that tests of the store need."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import uuid_utils.compat as uuid7s
from asyncpg import Connection, Record

from shared.providers.interface import Call, Outcome
from shared.store import fetching, leases, planning
from shared.store.fairness import Room
from shared.store.fetching import ClaimedFetch, Result
from shared.store.inbox import NewEvent, insert
from shared.store.opening import Opened
from shared.store.planning import ClaimedEvent, Planned


COALESCE_SECONDS = 0.0
LEASE_SECONDS = 10.0

Receive = Callable[..., Awaitable[list[UUID]]]


async def keep(db: Connection, count: int = 1, provider: str = "imin", account: str = "main") -> list[UUID]:
    """Keep ``count`` events as ingress does; returns their ids."""
    ids = [UUID(str(uuid7s.uuid7())) for _ in range(count)]
    await insert(
        db,
        [
            NewEvent(
                id=event,
                provider=provider,
                account=account,
                received_at=datetime.now(UTC),
                durability="postgres",
                content_type="application/json",
                headers=[],
                body=b"sealed",
                blob=None,
                body_bytes=2,
                body_sha256=hashlib.sha256(b"{}").digest(),
            )
            for event in ids
        ],
    )
    return ids


async def worker(db: Connection) -> UUID:
    """A worker process with a lease."""
    process = uuid4()
    await leases.beat(db, process, "worker-imin-1")
    return process


async def die(db: Connection, process: UUID) -> None:
    """The process beats no more for longer than a lease, and the relay notices."""
    await db.execute("UPDATE worker_processes SET beat_at = now() - interval '1 hour' WHERE id = $1", process)
    await leases.expire(db, LEASE_SECONDS, until=datetime.now(UTC) + timedelta(hours=1))
    await leases.give_back_orphans(db)


async def claim_events(db: Connection, process: UUID, limit: int = 50, *, suspects: bool = True) -> list[ClaimedEvent]:
    """Claim imin's events."""
    return await planning.claim(db, "imin", Room.of(limit), process, suspects=suspects)


async def plan(
    db: Connection, process: UUID, *calls: Call, identity: str | None = None, coalesce: float = COALESCE_SECONDS
) -> list[Opened]:
    """Plan every due event of imin with the same calls."""
    claimed = await claim_events(db, process)
    plans = [Planned(event, types=("changed",), identity=identity, calls=calls) for event in claimed]
    return (await planning.commit(db, plans, coalesce)).opened


async def claim_fetches(db: Connection, process: UUID, limit: int = 50) -> list[ClaimedFetch]:
    """Claim imin's fetches."""
    return await fetching.claim(db, "imin", Room.of(limit), process)


async def finish(db: Connection, fetch: ClaimedFetch, *more: Call) -> list[Opened]:
    """Store a success that brought nothing but perhaps a next page."""
    return (await fetching.commit(db, [Result(fetch, "done", Outcome(next=more), 200)], COALESCE_SECONDS)).opened


async def fail(db: Connection, fetch: ClaimedFetch, wait_seconds: float = 0.0) -> None:
    """Store a failure that is tried again."""
    failure = Result(
        fetch, "waiting", status=500, reason="refused", detail="the API answered 500", wait_seconds=wait_seconds
    )
    await fetching.commit(db, [failure], COALESCE_SECONDS)


async def give_up(db: Connection, fetch: ClaimedFetch, reason: str = "attempts-used-up") -> None:
    """Store a final failure."""
    await fetching.commit(db, [Result(fetch, "failed", reason=reason, detail="the API answered 410")], COALESCE_SECONDS)


async def event_states(db: Connection) -> dict[UUID, str]:
    """Each event's state."""
    return {row["id"]: row["state"] for row in await db.fetch("SELECT id, state FROM events")}


async def fetch_rows(db: Connection) -> list[Record]:
    """Every fetch, oldest first."""
    return await db.fetch("SELECT * FROM fetches ORDER BY id")
