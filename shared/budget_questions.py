"""Asking Redis for places in budgets: the questions of one turn of the event loop go out together, in one script call.

By Redis's own clock the script takes a place in a budget, or says to the millisecond when the asker's turn comes.
"""

import asyncio
from typing import Final, NamedTuple, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.background import Background


# A sliding window is a log of the calls in it; a fixed one begins with its first call and counts until it ends.
# ``room`` is how much of the budget this call may find used and still be made; each room has a line of its own.
# What is wrong with one question's keys (a value of another kind) is the answer to that question alone.
_TAKE: Final = """
local function take(keys, args)
    local log, pause, circuit, limits, line, seen, down, refused = unpack(keys)
    local calls, window, fixed, room, again = tonumber(args[1]), tonumber(args[2]), args[3] == 'fixed',
        tonumber(args[4]), tonumber(args[5])
    local name, scope, probing = args[6], args[7], args[8] == '1'
    local failures = redis.call('EXISTS', down, refused)
    if not probing then
        local why = redis.call('HGET', circuit, 'why')
        if why then return {'open', 0, why, failures} end
    end
    local paused = math.max(redis.call('PTTL', pause), 0)
    if calls == 0 then
        if paused > 0 then return {'paused', paused, '', failures} end
        return {'go', 0, '', failures}
    end
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if redis.call('EXISTS', seen) == 1 then room = math.min(room, again) end
    local used, free_in = 0, 0
    if fixed then
        used = tonumber(redis.call('GET', log) or '0')
        if used >= room then free_in = math.max(redis.call('PTTL', log), 1) end
    else
        redis.call('ZREMRANGEBYSCORE', log, '-inf', now - window)
        used = redis.call('ZCARD', log)
        if used >= room then
            free_in = redis.call('ZRANGE', log, used - room, used - room, 'WITHSCORES')[2] + window - now
        end
    end
    if free_in <= 0 and paused <= 0 then
        redis.call('HSET', limits, scope, calls .. ' ' .. window .. ' ' .. args[3])
        if fixed then
            redis.call('INCR', log)
            if used == 0 then redis.call('PEXPIRE', log, window) end
        else
            redis.call('ZADD', log, now, time[1] .. '.' .. time[2] .. '.' .. name)
            redis.call('PEXPIRE', log, window)
        end
        redis.call('SET', seen, '', 'PX', window)
        return {'go', 0, '', failures}
    end
    line = line .. ':' .. room
    local turn = math.max(tonumber(redis.call('GET', line) or '0'), now + math.max(free_in, paused))
    local after = math.floor(turn + window / room + 0.5)
    redis.call('SET', line, after, 'PX', after - now + 1000)
    return {paused >= free_in and 'paused' or 'full', turn - now, '', failures}
end
local answers = {}
for first = 0, #KEYS - 1, 8 do
    local keys, args = {}, {}
    for i = 1, 8 do keys[i], args[i] = KEYS[first + i], ARGV[first + i] end
    local answered, said = pcall(take, keys, args)
    if not answered then said = {'error', 0, type(said) == 'table' and said.err or tostring(said), 0} end
    table.insert(answers, said)
end
return answers
"""

_MOST_AT_ONCE: Final = 100
"""While Redis runs the script it does nothing else: a few milliseconds for so many questions."""


class Keys(NamedTuple):
    """Names in Redis, in the script's order."""

    log: str
    pause: str
    circuit: str
    limits: str
    line: str
    seen: str
    down: str
    refused: str


class Question(NamedTuple):
    """The script's keys, then its arguments in its order; without a limit only the pause and the circuit are asked for.

    Equal questions are asked once, and one answer serves them all: ``number`` tells apart those that take a place.
    """

    keys: Keys
    calls: int = 0
    window_milliseconds: int = 0
    window: str = ""
    room: int = 0
    again: int = 0
    number: int = 0
    scope: str = ""
    probing: int = 0


class Said(NamedTuple):
    """``go``; ``full`` or ``paused`` for so many milliseconds; or ``open``, and why the circuit is."""

    what: str
    milliseconds: int
    why: str
    failures: int


_Asked: TypeAlias = dict[Question, list[asyncio.Future[Said]]]


class Questions:
    """The questions of one process."""

    def __init__(self, redis: Redis) -> None:
        self._take = redis.register_script(_TAKE)
        self._asked: _Asked = {}
        self._under_way = Background()

    async def ask(self, question: Question) -> Said:
        """Ask, together with whoever asks in the same turn. Raises RedisError, OSError."""
        if not self._asked or len(self._asked) >= _MOST_AT_ONCE:
            self._asked = {}
            self._under_way.once("budget-questions", self._send(self._asked))
        answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(question, []).append(answer)
        return await answer

    async def _send(self, asked: _Asked) -> None:
        """An asker who was cancelled meanwhile leaves the others their answers."""
        if self._asked is asked:
            self._asked = {}
        try:
            answers = await self._take(
                keys=[key for question in asked for key in question.keys],
                args=[argument for question in asked for argument in question[1:]],
            )
            for waiting, answer in zip(asked.values(), answers, strict=True):
                said = Said(*answer)
                _tell(waiting, ResponseError(said.why) if said.what == "error" else said)
        except Exception as error:  # noqa: BLE001 - whatever it is: who is not told waits for ever
            for waiting in asked.values():
                _tell(waiting, error)


def _tell(waiting: list[asyncio.Future[Said]], answer: Said | Exception) -> None:
    for each in waiting:
        if each.done():
            continue
        if isinstance(answer, Exception):
            each.set_exception(answer)
        else:
            each.set_result(answer)
