"""The database roles of the processes: each may do what its process does, and nothing else.

``sql`` is what an administrator would type; it may be run again after every migration, and takes away what a role
should not have any more. Roles are made without a password, so nobody gets in as one before somebody gives it one.
"""

from collections.abc import Mapping
from typing import Final

from shared.store.postgres import connect_once


Grants = Mapping[str, str]
"""Table -> privileges as ``GRANT`` takes them. Who changes events or fetches adds to ``tallies``, by their triggers."""

_READ: Final = "SELECT"
_ADD: Final = "SELECT, INSERT"
_KEEP: Final = "SELECT, INSERT, UPDATE"
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"
_SEAL: Final = "SELECT, INSERT, UPDATE (uses, retired_at)"
"""Of the data keys: make one, reserve uses, retire one that is used up. They are destroyed by ``penstock erase``."""

_CONFIRMED: Final = "id, durability, body_bytes, body_sha256"
"""What ingress reads of an event: of the row that it has just inserted, for the timeline. Never a body or a header."""

INGRESS: Final[Grants] = {
    "events": f"INSERT, SELECT ({_CONFIRMED})",
    "timeline": "INSERT",
    "tallies": "INSERT",
    "quarantine": "INSERT, SELECT (source, bytes)",
    "data_keys": _SEAL,
    "known_accounts": _KEEP,
}

WORKER: Final[Grants] = {
    "events": "SELECT, UPDATE",
    "identities": _KEEP,
    "fetches": _ALL,
    "event_fetches": _ALL,
    "settlements": _ADD,
    "records": _KEEP,
    "changes": _ADD,
    "once_marks": "SELECT, INSERT, DELETE",
    "answers": _KEEP,
    "blobs": _KEEP,
    "handlers": _KEEP,
    "handovers": _KEEP,
    "worker_processes": _ALL,
    "lapses": "SELECT, INSERT, DELETE",
    "timeline": "INSERT",
    "tallies": "INSERT",
    "installation": _READ,
    "data_keys": _SEAL,
    "known_accounts": _KEEP,
}

RELAY: Final[Grants] = {
    **dict.fromkeys(
        (
            "events", "identities", "fetches", "event_fetches", "settlements", "records", "changes", "once_marks",
            "handovers", "answers", "worker_processes", "lapses", "timeline", "tallies", "quarantine", "retention",
            "reconciliations", "reconciliation_sights", "rhythms", "registrations", "blobs", "replays",
        ),
        _ALL,
    ),
    "handlers": _KEEP,
    "relay_duties": _KEEP,
    "installation": _READ,
    "data_keys": _SEAL,
    "known_accounts": _KEEP,
    "settings_trouble": _ALL,
}  # fmt: skip

CONSOLE: Final[Grants] = {
    **dict.fromkeys(
        (
            "identities", "records", "changes", "once_marks", "worker_processes", "retention",
            "reconciliations", "rhythms", "registrations", "relay_duties", "installation", "alembic_version",
            "known_accounts", "settings_trouble",
        ),
        _READ,
    ),
    "events": "SELECT, UPDATE",
    "fetches": "SELECT, UPDATE, DELETE",
    "event_fetches": "SELECT, DELETE",
    "handlers": "SELECT, UPDATE",
    "handovers": "SELECT, UPDATE",
    "replays": _KEEP,
    "timeline": _ADD,
    "tallies": _ADD,
    "quarantine": "SELECT, UPDATE, DELETE",
    "data_keys": _SEAL,
}  # fmt: skip

ROLES: Final[Mapping[str, Grants]] = {"ingress": INGRESS, "worker": WORKER, "relay": RELAY, "console": CONSOLE}
"""Process -> what its role may do. Flower needs no database; commands and ``penstock migrate`` run as the owner."""

_NUMBERING: Final[Mapping[str, tuple[str, ...]]] = {
    "ingress": ("claims",),
    "worker": ("claims",),
    "relay": ("claims", "change_numbers"),
}
"""Process -> the sequences that it draws from; those of identity columns need no grant."""

PREFIX: Final = "penstock_"


def sql(prefix: str = PREFIX) -> str:
    """Everything that makes the roles and their rights, to be run by the tables' owner in Penstock's own database."""
    lines = ["-- The roles of Penstock's processes; made by `penstock roles`, to be run again after each migration."]
    for process, grants in ROLES.items():
        role = prefix + process
        lines += [
            "",
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN",
            f"  CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;",
            "END IF; END $$;",
            f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};",
            f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role};",
            f"GRANT USAGE ON SCHEMA public TO {role};",
            *(f"GRANT {privileges} ON {table} TO {role};" for table, privileges in grants.items()),
            *(f"GRANT USAGE ON SEQUENCE {sequence} TO {role};" for sequence in _NUMBERING.get(process, ())),
        ]
    return "\n".join(
        [
            *lines,
            "",
            "-- Before version 15 of Postgres everybody may make tables here.",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
            "",
        ]
    )


async def grant(url: str, prefix: str = PREFIX) -> None:
    """Run it, all or nothing. Raises StoreAway, and asyncpg's errors where this user may not."""
    connection = await connect_once(url)
    try:
        async with connection.transaction():
            await connection.execute(sql(prefix))
    finally:
        await connection.close()
