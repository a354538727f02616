"""Authenticates what is in quarantine once more, with the settings in force now, and lets in what passes."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import orjson

from ingress.receive import read_head
from shared.errors import NotAuthentic, PenstockError
from shared.providers.interface import Inbound, Provider
from shared.quarantine import unseal_head
from shared.sealing import BrokenSeal, Keys
from shared.store import quarantine


if TYPE_CHECKING:
    from shared.configuration import Configuration
    from shared.store.postgres import Connection

BATCH: Final = 50


class NotInQuarantine(PenstockError):
    """An id was named that no delivery in quarantine has; nothing was released."""


class Outcome(NamedTuple):
    """What became of one delivery, or would: it is let in for ``account``, or ``reason`` says why not."""

    id: UUID
    provider: str
    released: bool
    account: str | None
    reason: str | None


class Selection(NamedTuple):
    """Which deliveries: these, or all of a provider, or all."""

    ids: Sequence[UUID] = ()
    provider: str | None = None


async def release(
    connection: "Connection",
    selection: Selection,
    providers: "Mapping[str, Provider[Any, Any]]",
    configuration: "Configuration",
    keys: Keys,
    *,
    note: str,
    dry_run: bool = False,
) -> AsyncIterator[Sequence[Outcome]]:
    """Release what is selected, oldest first; a batch is one transaction. Raises NotInQuarantine.

    ``note`` goes into each event's timeline: why, and who.
    """
    if missing := await quarantine.missing(connection, selection.ids):
        names = ", ".join(map(str, missing))
        raise NotInQuarantine(f"no delivery in quarantine has the id {names}; nothing was released")
    inbounds = {
        name: provider.inbound(list(configuration.accounts.get(name, {}).values()))
        for name, provider in providers.items()
    }
    after = UUID(int=0)
    while True:
        async with connection.transaction():
            held = await quarantine.take(connection, after, selection.ids, selection.provider, BATCH)
            judged = [_judge(sealed, inbounds.get(sealed.provider), keys) for sealed in held]
            proven = [let_in for _, let_in in judged if let_in]
            if proven and not dry_run:
                await quarantine.let_in(connection, proven, note)
        if held:
            yield [outcome for outcome, _ in judged]
        if len(held) < BATCH:
            return
        after = held[-1].id


def _judge(sealed: quarantine.Sealed, inbound: Inbound | None, keys: Keys) -> tuple[Outcome, quarantine.LetIn | None]:
    def refused(reason: str) -> tuple[Outcome, None]:
        return Outcome(sealed.id, sealed.provider, released=False, account=None, reason=reason), None

    if inbound is None:
        return refused("there is no such provider any more")
    try:
        request = unseal_head(keys, sealed.head, sealed.id)
        body = keys.unseal(sealed.body, sealed.id)
        account = inbound.check(request, body)
    except BrokenSeal as error:
        return refused(str(error))
    except NotAuthentic as error:
        return refused(inbound.cause(request, body) or error.cause)
    headers = orjson.dumps(read_head(request.headers, inbound.secret_headers).kept).decode()
    return (
        Outcome(sealed.id, sealed.provider, released=True, account=account, reason=None),
        quarantine.LetIn(sealed.id, account, headers, keys.seal(body, sealed.id)),
    )
