"""What a demo leaves behind when its folder is used in earnest: its accounts were in force here, and are to be gone."""

import asyncio
from pathlib import Path

from shared.configuration import read_document
from shared.settings import Settings
from shared.store import known_accounts
from shared.store.postgres import connect_once
from shared.vanished import accounts_of


async def let_go_of_demo(settings: Settings, demo: Path) -> list[str]:
    """Note that the demo's accounts are removed, but for those of the settings; returns their names.

    The demo's file goes with them: another demo writes it, and has its accounts back. Raises StoreAway, SettingsError.
    """
    own = set(accounts_of(read_document(settings.config).document))
    gone = sorted(set(accounts_of(read_document(demo).document)) - own)
    if settings.database_url is not None:
        connection = await connect_once(settings.database_url.get_secret_value())
        try:
            for account in gone:
                await known_accounts.remove(connection, account)
        finally:
            await connection.close()
    await asyncio.to_thread(demo.unlink)
    return ["/".join(account) for account in gone]
