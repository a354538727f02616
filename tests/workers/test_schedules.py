"""What the relay does by the clock, with the lab as its providers and a real store."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from ops.embedded.redis import Redis
from ops.lab.accounts import config_toml
from ops.lab.limits import Limit
from ops.lab.process import Lab, running_lab
from shared.providers.interface import Record
from shared.sealing import generate_key
from shared.settings import Settings
from shared.store.records import recording
from shared.watching import ConfigurationWatch
from support.conditions import until_so
from workers.relay.duties import Duties
from workers.relay.metrics import RelayMetrics
from workers.relay.schedules import Schedules


pytestmark = pytest.mark.anyio


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The provider lab, without limits."""
    with running_lab(seed=41) as lab:
        lab.set_limits({"paybook": Limit(calls=0, seconds=1)})
        yield lab


async def keep_schedules(database_url: str, settings: Settings, config: Path) -> None:
    """As a relay does, until cancelled."""
    duties = Duties(RelayMetrics(CollectorRegistry()))
    schedules = Schedules(database_url, settings, ConfigurationWatch(config), duties.progressed)
    await duties.keep(schedules.duties())


async def test_the_relay_reconciles_registers_and_listens(
    lab: Lab, database_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Each account is gone through once for today, Paybook's webhook is registered, and rhythms are learned."""
    mending = 'registration = { ingress = "https://hooks.example.com", again = true }\nwebhook_tokens'
    toml = config_toml([each for each in lab.accounts() if each.provider != "magicline"])
    toml = toml.replace("webhook_tokens", mending).replace("base_url", "budget = { calls = 0 }\nbase_url")
    config = tmp_path / "penstock.toml"
    config.write_text(f'[reconcile]\nschedule = "daily"\nat = "00:00"\n\n{toml}')
    db = await asyncpg.connect(database_url)
    seen = recording.Sighting("imin", "main", Record("imin.customer-account", "c-5", '{"identifier": "c-5"}'), 1, None)
    async with db.transaction():
        await recording.apply(db, [seen])
    settings = Settings(redis_url=SecretStr(redis.url), encryption_keys=(SecretStr(generate_key()),))

    running = asyncio.create_task(keep_schedules(database_url, settings, config))
    await until_so(lambda: db.fetchval("SELECT count(finished_at) = 3 FROM reconciliations"))
    await until_so(lambda: db.fetchval("SELECT count(*) = 1 FROM registrations"))
    await until_so(lambda: db.fetchval("SELECT count(*) = 3 FROM rhythms"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert 1 == await db.fetchval("SELECT count(*) FROM events WHERE reconciled AND provider = 'imin'")
    assert 1 == lab.calls("imin")["total"]
    await db.close()


async def test_nothing_is_reconciled_unless_the_settings_say_so(
    lab: Lab, database_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Off is the default; the rest goes on."""
    config = tmp_path / "penstock.toml"
    config.write_text(lab.config_toml())
    settings = Settings(redis_url=SecretStr(redis.url), encryption_keys=(SecretStr(generate_key()),))
    db = await asyncpg.connect(database_url)

    running = asyncio.create_task(keep_schedules(database_url, settings, config))
    await until_so(lambda: db.fetchval("SELECT count(*) > 0 FROM rhythms"))
    await until_so(lambda: asyncio.to_thread(lambda: lab.calls("paybook", "/v1/webhooks")["total"]))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert 0 == await db.fetchval("SELECT count(*) FROM reconciliations")
    assert 0 == lab.calls("magicline")["total"]
    await db.close()
