"""Whether an account's API is called at all: one circuit per account, shared by all workers through Redis.

It opens when the provider refuses the credentials, or when nothing but failures came back for a while; then nobody
calls, except one probe per interval. (Libraries such as pybreaker and purgatory let any caller through as the probe,
also where they keep their state in Redis; see docs/decisions/0011-circuits.md.)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import StoreAway
from shared.providers.account import AccountSettings
from shared.settings import without_password


Trouble: TypeAlias = Literal["down", "refused"]
"""``down``: the API fails or does not answer. ``refused``: it does not accept the credentials."""

FAILURES_TO_OPEN: Final = {"down": 10, "refused": 3}
"""So many in a row, with no success between: half of the calls failing is no reason."""

COUNT_SECONDS: Final = 60.0
LONGEST_INTERVAL: Final = {"down": 15.0, "refused": 300.0}
FORGOTTEN_AFTER_SECONDS: Final = 86_400.0

_OPEN_ONES: Final = "penstock:circuits"
_OPEN: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local new = redis.call('HSETNX', KEYS[1], 'probe_at', now + ARGV[3])
redis.call('HSET', KEYS[1], 'why', ARGV[1], 'trouble', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[5])
return new
"""
_FORGET: Final = """
if not KEYS[2] or redis.call('EXISTS', KEYS[2]) == 0 then redis.call('SREM', KEYS[1], ARGV[1]) end
"""
_PROBE: Final = """
local at = redis.call('HGET', KEYS[1], 'probe_at')
if not at then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now < tonumber(at) then return 0 end
redis.call('HSET', KEYS[1], 'probe_at', now + ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'probes', 1)
"""
_NEXT: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'probe_at', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


@dataclass(frozen=True, slots=True)
class Circuit:
    """An open circuit: what is wrong, and why in a sentence for people."""

    trouble: Trouble
    why: str
    next_probe_seconds: float


class Circuits:
    """The accounts' circuits in Redis. Every method raises StoreAway when Redis does not answer."""

    def __init__(self, redis: Redis, redis_url: str) -> None:
        self._redis = redis
        self._url = redis_url
        self._open = redis.register_script(_OPEN)
        self._forget = redis.register_script(_FORGET)
        self._probe = redis.register_script(_PROBE)
        self._next = redis.register_script(_NEXT)
        self._troubled: set[tuple[str, str]] = set()

    # ── what came of calls ────────────────────────────────────────────────────────────────────────────────────────

    async def failed(
        self, provider: str, account: AccountSettings, trouble: Trouble, why: str, probe_seconds: float
    ) -> bool:
        """A call failed; opens the circuit when that was one too many in a row. Returns whether it is open now."""
        self._troubled.add((provider, account.name))
        key = failures_key(provider, account, trouble)
        try:
            count = int(await self._redis.incr(key))
            if count == 1:
                await self._redis.pexpire(key, _milliseconds(COUNT_SECONDS))
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        if count < FAILURES_TO_OPEN[trouble]:
            return False
        await self.open(provider, account, trouble, why, probe_seconds)
        return True

    async def open(
        self, provider: str, account: AccountSettings, trouble: Trouble, why: str, probe_seconds: float
    ) -> bool:
        """Make no call at all until a probe succeeds; the first one is due after ``probe_seconds``.

        Returns whether it was closed before. The circuit belongs to the credentials: an account with mended ones is
        called at once.
        """
        try:
            new = await self._open(
                keys=[circuit_key(provider, account), _OPEN_ONES],
                args=[
                    why,
                    trouble,
                    _milliseconds(probe_seconds),
                    _milliseconds(FORGOTTEN_AFTER_SECONDS),
                    f"{provider}:{account.name}",
                ],
            )
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        return bool(new)

    async def succeeded(self, provider: str, account: AccountSettings) -> None:
        """A call was answered: failures count from the beginning again. Costs nothing where none are known."""
        if (provider, account.name) not in self._troubled:
            return
        try:
            await self._redis.delete(*(failures_key(provider, account, trouble) for trouble in FAILURES_TO_OPEN))
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        self._troubled.discard((provider, account.name))

    def know_of_failures(self, provider: str, account: AccountSettings) -> None:
        """Another process has seen failures: the next success here is told to all."""
        self._troubled.add((provider, account.name))

    # ── probing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, provider: str, account: AccountSettings) -> Circuit | None:
        """The account's circuit, if it is open."""
        key = circuit_key(provider, account)
        try:
            found = await self._redis.hgetall(key)
            seconds, microseconds = await self._redis.time()
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        if not found:
            return None
        wait = float(found["probe_at"]) / 1000 - (seconds + microseconds / 1e6)
        trouble: Trouble = "refused" if found["trouble"] == "refused" else "down"
        return Circuit(trouble, str(found["why"]), max(0.0, wait))

    async def opened(self) -> Sequence[tuple[str, str]]:
        """The (provider, account) pairs whose circuit was opened and not closed since: those are to be probed."""
        try:
            names = await self._redis.smembers(_OPEN_ONES)
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        return [(provider, name) for provider, _, name in (str(each).partition(":") for each in names)]

    async def forget(self, provider: str, name: str, account: AccountSettings | None) -> None:
        """Name an account no more among the opened ones, unless its circuit is open (again)."""
        keys = [_OPEN_ONES, *([circuit_key(provider, account)] if account else [])]
        try:
            await self._forget(keys=keys, args=[f"{provider}:{name}"])
        except (RedisError, OSError) as error:
            raise self._away(error) from None

    async def begin_probe(self, provider: str, account: AccountSettings, within_seconds: float) -> int:
        """Take the probe that is due: which one it is, counted from 1; 0 when none is due or another process has it.

        After ``within_seconds`` another one is due, should this process die.
        """
        try:
            number = await self._probe(keys=[circuit_key(provider, account)], args=[_milliseconds(within_seconds)])
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        return int(number)

    async def put_off_probe(self, provider: str, account: AccountSettings, seconds: float) -> None:
        """The next probe is due after so long; the circuit stays open."""
        try:
            await self._next(
                keys=[circuit_key(provider, account)],
                args=[_milliseconds(seconds), _milliseconds(FORGOTTEN_AFTER_SECONDS)],
            )
        except (RedisError, OSError) as error:
            raise self._away(error) from None

    async def close(self, provider: str, account: AccountSettings) -> bool:
        """Let calls through again. Returns whether it was open."""
        keys = (failures_key(provider, account, trouble) for trouble in FAILURES_TO_OPEN)
        try:
            was_open, _ = await self._redis.delete(circuit_key(provider, account)), await self._redis.delete(*keys)
        except (RedisError, OSError) as error:
            raise self._away(error) from None
        await self.forget(provider, account.name, account)
        return bool(was_open)

    def _away(self, error: Exception) -> StoreAway:
        reason = str(error) or type(error).__name__
        return StoreAway(f"Redis does not answer at {without_password(self._url)}: {reason}")


def interval(trouble: Trouble, probes: int, probe_seconds: float) -> float:
    """Seconds from a probe that failed to the next: they double, up to ``LONGEST_INTERVAL``."""
    return max(probe_seconds, min(LONGEST_INTERVAL[trouble], probe_seconds * 2.0 ** min(probes - 1, 30)))


def circuit_key(provider: str, account: AccountSettings) -> str:
    """Where the account's circuit is kept; another key for other credentials."""
    return f"penstock:circuit:{provider}:{account.name}:{_credentials(account)}"


def failures_key(provider: str, account: AccountSettings, trouble: Trouble | str) -> str:
    """Where the account's failures in a row are counted."""
    return f"penstock:failures:{provider}:{account.name}:{_credentials(account)}:{trouble}"


def _credentials(account: AccountSettings) -> str:
    secrets = "\0".join((account.base_url, *(key.get_secret_value() for key in account.outbound_secrets())))
    return hashlib.sha256(secrets.encode()).hexdigest()[:16]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
