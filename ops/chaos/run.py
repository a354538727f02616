"""One run: an installation, scenario after scenario on it, and a result for each."""

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg

from ops.chaos.evidence import Witness
from ops.chaos.replicated_redis import ReplicatedRedis
from ops.chaos.scenario import Load, Measured, Scenario, Skipped, Stage
from ops.chaos.sending import Happened, Sender
from ops.chaos.throwaway import GivenStores, Throwaway
from ops.chaos.traffic import Intent, intents
from ops.chaos.verdict import Result, judge
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from ops.supervisor.table import FOLLOWS_UP
from shared.errors import PenstockError
from shared.sealing import generate_key


LEAD_SECONDS = 2.0
PLAY_SECONDS = 600.0
RESEND_SECONDS = 120.0
FINISH_SECONDS = 240.0
"""Bounds for what hangs; what takes long and ends well is told by the verdict."""
_POLL_SECONDS = 0.25
_TELL_SECONDS = 2.0

Say = Callable[[str], None]


LoadOf = Callable[[Scenario], Load]


async def play_all(
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    load_of: LoadOf,
    stores: GivenStores,
    folder: Path | None,
    say: Say,
) -> AsyncIterator[Result]:
    """Play each scenario with each seed, one after the other; the results as they come.

    The installation stands until a scenario fails on it; the next one then gets a fresh one. The folder of a failed one
    stays, for its logs.
    """
    key = generate_key()
    stage: Throwaway | None = None
    # It stands for APIs that run elsewhere: it takes no processor from ingress, nor from the sender.
    with running_lab(seed=seeds[0], clock_speed=1.0, niceness=FOLLOWS_UP) as lab:
        lab.set_limits({name: Limit(calls=0, seconds=1.0) for name in ("magicline", "paybook")})
        try:
            for seed in seeds:
                for scenario in scenarios:
                    if missing := scenario.needs - stores.embedded:
                        skipped = f"needs embedded servers ({', '.join(sorted(missing))})"
                        yield Result(scenario.name, seed, skipped=skipped)
                        continue
                    if scenario.replicated:
                        yield await _play_replicated(lab, scenario, seed, load_of(scenario), stores, key, folder, say)
                        continue
                    if stage is None:
                        say("starts a throw-away installation")
                        stage = await _fresh(lab, stores, key, folder)
                    result = await _play(stage, scenario, seed, load_of(scenario), say)
                    yield result
                    if result.why:
                        say(f"{scenario.name} failed; its installation is kept in {stage.folder}")
                        await stage.stop()
                        stage = None
        finally:
            if stage is not None:
                await stage.stop()
                shutil.rmtree(stage.folder, ignore_errors=True)


async def _fresh(lab: Lab, stores: GivenStores, key: str, folder: Path | None) -> Throwaway:
    stage = Throwaway(Path(tempfile.mkdtemp(prefix="penstock-chaos-", dir=folder)), lab, stores, key)
    try:
        await stage.start()
    except BaseException:
        await stage.stop()
        raise
    return stage


async def _play_replicated(
    lab: Lab,
    scenario: Scenario,
    seed: int,
    load: Load,
    stores: GivenStores,
    key: str,
    folder: Path | None,
    say: Say,
) -> Result:
    """Play one on an installation of its own, whose Redis is one with sentinels."""
    if stores.redis_url:
        return Result(scenario.name, seed, skipped="needs a Redis with sentinels of its own: leave --redis-url out")
    home = Path(tempfile.mkdtemp(prefix="penstock-sentinel-", dir=folder))
    say("starts a throw-away installation, and a Redis with replicas and sentinels")
    with ReplicatedRedis(home) as redis:
        stage = await _fresh(lab, replace(stores, redis_url=redis.url), key, folder)
        stage.replicated = redis
        result = await _play(stage, scenario, seed, load, say)
        await stage.stop()
    if result.why:
        say(f"{scenario.name} failed; its installation is kept in {stage.folder}, its Redis in {home}")
    else:
        for done in (stage.folder, home):
            shutil.rmtree(done, ignore_errors=True)
    return result


async def _play(at: Throwaway, scenario: Scenario, seed: int, load: Load, say: Say) -> Result:
    """Play one scenario. Whatever goes wrong is in the result."""
    name = f"{scenario.name}/{seed}"
    witness = Witness(at.noted().database_url, (at.data / "blobs").as_uri(), at.key)
    measured = Measured()
    async with Sender(at.lab.url("control"), lambda: at.ingress_url) as sender:
        try:
            await witness.start()
            seen = await asyncio.to_thread(_calls_seen, at.lab)
            recovered = await _under_load(at, scenario, name, load, sender, witness, measured, say)
            calls = await asyncio.to_thread(at.lab.calls, "", "", seen, 100_000)
            evidence = await witness.read(calls["calls"])
        except Skipped as error:
            return Result(scenario.name, seed, skipped=str(error))
        except (PenstockError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ExceptionGroup) as error:
            why = [f"the scenario broke off: {type(cause).__name__}: {cause}" for cause in _causes(error)]
            taken = sum(sent.acknowledged for sent in sender.ledger)
            return Result(scenario.name, seed, sent=len(sender.ledger), acknowledged=taken, why=why)
        return judge(scenario, seed, sender.ledger, evidence, recovered, measured, load.rate)


async def _under_load(
    at: Throwaway,
    scenario: Scenario,
    name: str,
    load: Load,
    sender: Sender,
    witness: Witness,
    measured: Measured,
    say: Say,
) -> float | None:
    """Send, play, wait; seconds from the fault's last act and the last delivery sent until all was finished."""
    due: Iterable[Intent | tuple[Intent, Happened]] = intents(name, load.events)
    if load.ahead:
        say(f"{name}: prepares {load.events} deliveries")
        due = await sender.prepare(intents(name, load.events))
    began = acted = time.monotonic()
    now = "under way"

    def doing(what: str) -> None:
        nonlocal acted, now
        acted, now = time.monotonic(), what
        say(f"{name}: {what}")

    async def progress() -> None:
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            taken = sum(sent.acknowledged for sent in sender.ledger)
            say(f"{name}: {len(sender.ledger)} sent, {taken} acknowledged; {now}")

    sending = asyncio.create_task(sender.send(due, load.rate))
    telling = asyncio.create_task(progress())
    try:
        await asyncio.sleep(LEAD_SECONDS)
        async with asyncio.timeout(PLAY_SECONDS):
            chance = random.Random(f"fault {name}")  # noqa: S311 - a run must be repeatable
            await scenario.play(Stage(at, chance, doing, sender.deliver, lambda: asyncio.shield(sending), measured))
        sender.give_up_at = max(time.monotonic(), began + load.events / load.rate) + RESEND_SECONDS
        await sending
        now = "waiting until everything is finished"
        return await _recovered(witness, sender, acted)
    finally:
        for task in (sending, telling):
            task.cancel()
        await asyncio.gather(sending, telling, return_exceptions=True)
        await asyncio.to_thread(at.lab.set_faults)


async def _recovered(witness: Witness, sender: Sender, ended: float) -> float | None:
    """Seconds until all is finished; None when it is not in time."""
    last = max((a.at for sent in sender.ledger if sent.receipt for a in sent.attempts[-1:]), default=ended)
    receipts = {sent.receipt for sent in sender.ledger if sent.acknowledged}
    while (waited := time.monotonic() - max(ended, last)) < FINISH_SECONDS:
        with contextlib.suppress(PenstockError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if await witness.finished(receipts):
                return round(waited, 1)
        await asyncio.sleep(_POLL_SECONDS)
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """The errors that a group of them holds, or the one itself."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for each in error.exceptions for cause in _causes(each)]
    return [error]


def _calls_seen(lab: Lab) -> int:
    return sum(lab.calls(limit=0)["seen"].values())
