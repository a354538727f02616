"""Closes circuits: asks an API that was given up once in a while, and lets what was held go on when it answers.

Every worker process looks; a probe is made by the one that takes it. Nothing depends on the circuit's being closed and
the held fetches' being released together: what is held while no circuit is open goes on at the next look.
"""

import asyncio
import random
from typing import Any, NamedTuple

import asyncpg
import structlog

from shared.budgets import Budgets, in_force
from shared.circuits import Circuit, Trouble, interval
from shared.configuration import Configuration
from shared.errors import AnswerError, RefusedAnswer, StoreAway
from shared.providers.account import AccountSettings
from shared.providers.interface import Answer, Call, FollowUp, Probe
from shared.providers.registry import PROVIDERS
from shared.store import holding
from shared.store.postgres import AWAY, Pool
from shared.watching import ConfigurationWatch
from workers.calling import Caller, NoAnswer
from workers.follow_up.sessions import NotNow, Sessions
from workers.follow_up.verdicts import SERVER_ERRORS


log = structlog.get_logger("penstock.circuits")

LOOK_SECONDS = 1.0
REFUSED = frozenset({401, 402})
SUCCESS = range(200, 300)


class Wrong(NamedTuple):
    """What a probe found; ``again_in_seconds`` where it could not be made, else 0."""

    trouble: Trouble
    why: str
    again_in_seconds: float = 0.0


class Probing:
    """The look-out of one worker process."""

    def __init__(
        self, pool: Pool, budgets: Budgets, caller: Caller, sessions: Sessions, watch: ConfigurationWatch
    ) -> None:
        self._pool = pool
        self._budgets = budgets
        self._caller = caller
        self._sessions = sessions
        self._watch = watch
        self._away = ""

    async def run(self) -> None:
        """Look again and again until cancelled; a store that is away is waited for."""
        while True:
            try:
                await self.look()
                self._tell_of_stores("")
            except (StoreAway, asyncpg.PostgresError, *AWAY) as error:
                self._tell_of_stores(str(error) or type(error).__name__)
            # so that processes that started together do not look together
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, guards nothing

    def _tell_of_stores(self, away: str) -> None:
        """Say why there is no look, once; a store may be away for long, and every process looks each second."""
        if away and not self._away:
            log.warning("circuits cannot be looked at; trying again", reason=away)
        elif self._away and not away:
            log.info("circuits are looked at again")
        self._away = away

    async def look(self) -> None:
        """Probe where a probe is due, and let go on what is held for no reason any more.

        An open circuit is probed also where nothing is held: a call that reconciliation or an operator wants to make
        would find it open for a day, though the API has long been well.
        """
        async with self._pool.acquire() as connection:
            held = await holding.accounts(connection)
        opened = await self._budgets.circuits.opened()
        for provider, name in sorted({*held, *opened}):
            configuration = self._watch.current
            account = configuration.account(provider, name)
            if account is None or provider not in PROVIDERS or await self._is_closed(provider, account, configuration):
                await self._release(provider, name, account)
                if (provider, name) in opened:
                    await self._budgets.circuits.forget(provider, name, account)

    async def _is_closed(self, provider: str, account: AccountSettings, configuration: Configuration) -> bool:
        """Whether calls may go out again, after a probe if one is due."""
        circuits, base = self._budgets.circuits, configuration.following_up.probe_seconds
        circuit = await circuits.get(provider, account)
        if circuit is None:
            return True
        probes = await circuits.begin_probe(provider, account, configuration.timing.call_seconds + base)
        if not probes:
            return False
        wrong = await self._probe(provider, account, circuit, configuration)
        if wrong is None:
            if await circuits.close(provider, account):
                log.info("the API takes calls again; the circuit is closed", provider=provider, account=account.name)
            return True
        await circuits.open(provider, account, wrong.trouble, wrong.why, base)
        seconds = wrong.again_in_seconds or interval(wrong.trouble, probes, base)
        await circuits.put_off_probe(provider, account, seconds)
        log.warning("the API does not take calls; the circuit stays open", account=account.name, reason=wrong.why)
        return False

    async def _probe(
        self, provider: str, account: AccountSettings, circuit: Circuit, configuration: Configuration
    ) -> Wrong | None:
        """What is still wrong; None when the API takes calls.

        Refused credentials are tried by the provider's cheapest read; an API that was down by what waits for it, since
        only that tells whether it works again, or by the cheapest read where nothing waits. It is a GET, so making it
        once more does no harm.
        """
        cheapest, call = PROVIDERS[provider].follow_up.probe(), None
        if cheapest is None or circuit.trouble == "down":
            async with self._pool.acquire() as connection:
                call = await holding.oldest(connection, provider, account.name)
        try:
            if call is not None:
                return await self._by_call(provider, account, circuit, call, configuration)
            if cheapest is not None:
                return await self._by_cheapest(provider, account, circuit, cheapest, configuration)
        except NotNow as error:
            return Wrong(circuit.trouble, circuit.why, error.wait.seconds)
        except (NoAnswer, AnswerError) as error:
            return Wrong("down", f"the API of {account.name} is down: {error}")
        return None

    async def _by_call(
        self, provider: str, account: AccountSettings, circuit: Circuit, call: Call, configuration: Configuration
    ) -> Wrong | None:
        """Make a call that is held. Raises NotNow, NoAnswer, AnswerError."""
        follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
        limit = follow_up.limit(call, account)
        if wait := await self._budgets.take(provider, account, limit, "probe", probing=True):
            return Wrong(circuit.trouble, circuit.why, wait.seconds)
        try:
            answer = await self._sessions.get(provider, account, call, follow_up, configuration, probing=True)
            status, said = answer.status, answer.body.decode(errors="replace")
            if status in SUCCESS:
                await asyncio.to_thread(_read, follow_up, call, answer, account)
        except RefusedAnswer as error:
            status, said = error.status, str(error)
        refusal = follow_up.refusal(call, status, said)
        if refusal and refusal.about == "one":
            return None  # that a user or thing is refused shows that the API works
        return _wrong(account, status, "refused" if refusal else None)

    async def _by_cheapest(
        self, provider: str, account: AccountSettings, circuit: Circuit, cheapest: Probe, configuration: Configuration
    ) -> Wrong | None:
        """Make the cheapest read, and judge it as calls are judged: by what it says too. Raises NoAnswer, AnswerError.

        While credentials are refused, only what is known to be good lets calls through again.
        """
        follow_up: FollowUp[Any, Any] = PROVIDERS[provider].follow_up
        otherwise: Trouble | None = "refused" if circuit.trouble == "refused" else None
        wait = cheapest.limit and await self._budgets.take(provider, account, cheapest.limit, "probe", probing=True)
        if wait:
            return Wrong(circuit.trouble, circuit.why, wait.seconds)
        headers = follow_up.credentials(Call(cheapest.path, "probe"), account)
        answer = await self._caller.ask(account, cheapest.method, cheapest.path, headers, configuration)
        if answer.status not in cheapest.right:
            return _wrong(account, answer.status, otherwise)
        try:
            follow_up.read_probe(answer)
        except RefusedAnswer as error:
            return _wrong(account, error.status, otherwise)
        return None

    async def _release(self, provider: str, name: str, account: AccountSettings | None) -> None:
        """Make what is held due, each kind of call at the pace of its budget: nobody wakes before there is room."""
        released = 0
        places: dict[str, int] = {}
        async with self._pool.acquire() as connection:
            for held in await holding.purposes(connection, provider, name):
                step, scope = 0.0, ""
                if account is not None and provider in PROVIDERS:
                    limit = in_force(account, PROVIDERS[provider].follow_up.limit(held.call, account))
                    step, scope = limit.seconds / limit.calls if limit.calls else 0.0, limit.scope
                while True:
                    async with connection.transaction():
                        first = places.get(scope, 0) * step
                        done = await holding.release(connection, provider, name, held.purpose, first, step)
                    places[scope] = places.get(scope, 0) + done
                    released += done
                    if not done:
                        break
        if released:
            log.info("what was held goes on", provider=provider, account=name, fetches=released)


def _read(follow_up: FollowUp[Any, Any], call: Call, answer: Answer, account: AccountSettings) -> None:
    """Read an answer for what it says of itself. Raises RefusedAnswer; what cannot be read is no trouble of the API."""
    try:
        follow_up.interpret(call, answer, account)
    except RefusedAnswer:
        raise
    except Exception as error:  # noqa: BLE001 - also a fault of ours in reading it: its fetch will tell of it
        log.warning("the probe's answer cannot be read", account=account.name, reason=type(error).__name__)


def _wrong(account: AccountSettings, status: int, otherwise: Trouble | None = None) -> Wrong | None:
    """What a status says is wrong; ``otherwise`` is what any that is not known to be good means."""
    if status >= SERVER_ERRORS:
        return Wrong("down", f"the API of {account.name} is down: it answered {status}")
    if status in REFUSED or otherwise is not None:
        return Wrong("refused", f"check the API key of {account.name}: the API answered {status}")
    return None
