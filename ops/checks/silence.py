"""Whether accounts are silent for longer than they should be."""

from collections.abc import Sequence

from ops.checks.finding import Finding, advice
from ops.silences import sentence, silent_accounts
from shared.errors import PenstockError
from shared.settings import Settings
from shared.store.reading.connecting import reading, reading_engine


async def check_silence(settings: Settings) -> Sequence[Finding]:
    """A finding for each account that is; none where Postgres is away, which another check says."""
    if settings.database_url is None:
        return ()
    try:
        engine = reading_engine(settings.database_url.get_secret_value(), name="check")
    except PenstockError:
        return ()
    try:
        async with reading(engine) as connection:
            silent = await silent_accounts(connection, settings)
    except PenstockError:
        return ()
    finally:
        await engine.dispose()
    return [
        advice(
            f"{each.provider} {each.account}",
            f"{sentence(each)}: see that its webhook is still registered, and run"
            f" `penstock reconcile {each.provider} --account {each.account}`",
        )
        for each in silent
    ]
