"""Which configured accounts are silent for longer than they should be, for the commands."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.settings import Settings
from shared.store.reading.silences import Silence, silences


async def silent_accounts(connection: AsyncConnection, settings: Settings) -> Sequence[Silence]:
    """By what the relay has seen; nothing while the settings do not validate."""
    try:
        configuration = read_configuration(settings.config)
    except SettingsError:
        return ()
    configured = {(provider, name) for provider, accounts in configuration.accounts.items() for name in accounts}
    return await silences(connection, configured, configuration.watch.silence_spans)


def sentence(silence: Silence) -> str:
    """For people."""
    last = silence.last_event_at.strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"silent for longer than it should be: its last event came at {last}; usually there would have been events in "
        f"{silence.expected_spans:.0f} spans of five minutes since"
    )
