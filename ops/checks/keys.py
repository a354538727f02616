"""Which encryption keys are in use, and which may be removed."""

from collections.abc import Sequence

import asyncpg

from ops.checks.finding import Finding, advice, fix, ok
from shared.errors import PenstockError
from shared.sealing import Keys
from shared.settings import Settings
from shared.store import rotating
from shared.store.keys import wrapped_by
from shared.store.postgres import AWAY, connect_once


_ITEM = "encryption keys in use"


async def check_keys(settings: Settings) -> Sequence[Finding]:
    """A line for each older key, and one for data keys that no key here opens; nothing where a store is missing."""
    if settings.database_url is None:
        return []
    try:
        keys = Keys.parse(settings.encryption_keys)
        connection = await connect_once(settings.database_url.get_secret_value())
    except PenstockError:
        return []  # said by the checks of settings and stores
    try:
        wrapped = dict(await wrapped_by(connection))
        whole = await rotating.rotated_to(connection) == keys.newest
    except (asyncpg.UndefinedTableError, *AWAY):
        return []
    finally:
        connection.terminate()
    findings = [
        fix(
            _ITEM,
            f"{count} data keys are wrapped by the key {master.hex()}, which is not in PENSTOCK_ENCRYPTION_KEYS: put it"
            " back",
        )
        for master, count in wrapped.items()
        if master not in keys.by_id
    ]
    for key in keys.by_id.keys() - {keys.newest}:
        if whole and not wrapped.get(key):
            findings.append(advice(_ITEM, f"nothing is left under the older key {key.hex()}: it may be removed"))
        else:
            findings.append(
                advice(
                    _ITEM,
                    f"the older key {key.hex()} is still needed ({wrapped.get(key, 0)} data keys): run"
                    " `penstock keys rotate`, then remove it",
                )
            )
    return findings or [ok(_ITEM, f"one key wraps {sum(wrapped.values())} data keys")]
