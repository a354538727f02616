"""Checks of handlers: who is told of changes, whether it works, and what waits for whom."""

from collections.abc import Iterator, Sequence

from ops.checks.finding import Finding, advice, fix, ok
from penstock.handlers import registered
from penstock.loading import load
from penstock.records import KINDS
from shared.configuration import Configuration
from shared.errors import StoreAway
from shared.handlers.names import clashes
from shared.handlers.signing import ADVISED_BYTES, key_of
from shared.settings import Settings
from shared.store.reading.connecting import reading, reading_engine
from shared.store.reading.handlers import handler_standings
from shared.store.reading.shapes import HandlerStanding


async def check_handlers(settings: Settings, configuration: Configuration | None) -> list[Finding]:
    """The findings on the handlers of the settings, of installed packages, and of those that are gone."""
    faults = load()
    findings = [
        fix(f"handlers {entry}", f"it cannot be imported, so its changes wait: {reason}")
        for entry, reason in faults.items()
    ]
    if configuration:
        findings.extend(_of_settings(configuration))
    for python in registered().values():
        findings.extend(_of_kinds(python.name, sorted(python.kinds)))
    if configuration:
        clashing = clashes(configuration.handlers, registered())
        findings.extend(fix(f"handler {name}", reason) for name, reason in clashing.items())
        here = {*registered(), *(handler.name for handler in configuration.handlers)}
        for standing in await _standings(settings):
            if standing.name not in clashing:
                findings.extend(_of_standing(standing, here))
    return findings


def _of_settings(configuration: Configuration) -> Iterator[Finding]:
    for handler in configuration.handlers:
        item = f"handler {handler.name}"
        yield from _of_kinds(handler.name, handler.kinds)
        lengths = [len(key_of(secret.get_secret_value())) for secret in (handler.secret, *handler.older_secrets)]
        if any(length not in ADVISED_BYTES for length in lengths):
            yield advice(item, "a secret should hold 24 to 64 bytes, as the Standard Webhooks specification says")
        if handler.older_secrets:
            yield advice(item, "older_secrets still sign: take them out once every receiver knows the new secret")


def _of_kinds(name: str, kinds: Sequence[str]) -> Iterator[Finding]:
    if unknown := sorted(set(kinds) - set(KINDS)):
        yield advice(f"handler {name}", f"no provider here has records of the kind {unknown[0]}: is it spelled right?")


def _of_standing(standing: HandlerStanding, here: set[str]) -> Iterator[Finding]:
    item = f"handler {standing.name}"
    unfinished = standing.pending + standing.running + standing.waiting
    waiting = f"{unfinished} changes wait, {standing.parked} are parked"
    if standing.name not in here:
        yield advice(
            item,
            f"it is neither in the settings nor in an installed package; its changes are kept ({waiting}) until it is"
            f" back, or `penstock handlers forget {standing.name}`",
        )
    elif standing.stopped_reason:
        yield fix(
            item,
            f"stopped as {standing.stopped_reason}: {standing.stopped_detail} ({waiting}); set its url right, or"
            f" `penstock handlers resume {standing.name}`",
        )
    elif standing.open_until:
        yield advice(item, f"failed {standing.failures} times in a row, tried again now and then ({waiting})")
    elif standing.parked:
        yield advice(item, f"{waiting}: `penstock handovers list --handler {standing.name} --state parked` lists them")
    else:
        yield ok(item, waiting)


async def _standings(settings: Settings) -> Sequence[HandlerStanding]:
    """None of them where the store does not answer, which another check tells of."""
    if settings.database_url is None:
        return ()
    engine = reading_engine(settings.database_url.get_secret_value(), name="check")
    try:
        async with reading(engine) as connection:
            return await handler_standings(connection)
    except StoreAway:
        return ()
    finally:
        await engine.dispose()
