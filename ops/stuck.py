"""What is stuck, a sentence each with what to do about it: alike in `penstock check`, `status` and the console."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from shared.store.reading.stuck import Duty, Process, Standing
from shared.store.stuck import Unplanned


FAILING_MINUTES: Final = 2.0
"""A process that has only failed for so long is told of: a store that is back, or a restart, needs less."""

_DUTIES: Final = {
    "drain-spool": "moved what was spooled into Postgres",
    "queue-due": "queued what is due",
    "wake-handlers": "woken the handlers",
    "number-changes": "numbered the change feed, so no handler hears of what is new",
    "welcome-accounts": "let events of accounts that are back go on",
    "lapse-handovers": "made due again what dead processes had to hand over",
    "end-leases": "ended the leases of dead processes",
    "settle-events": "settled the events that a commit left",
    "fold-tallies": "summed the counts up",
    "lapse-quarantine": "removed refused deliveries after their day",
    "gauge-postgres": "read its figures from Postgres",
    "gauge-redis": "read its figures from Redis",
    "tell-standing": "told of itself",
    "listen-for-silence": "looked for accounts that are silent",
    "reconcile": "come further with reconciling",
    "watch-registrations": "looked at the webhooks that are registered at Paybook",
    "retain": "removed what is old",
}


class Stuck(NamedTuple):
    """One thing: what it is, a sentence, and whether it needs doing (else it is advice)."""

    item: str
    sentence: str
    urgent: bool = True


def stuck(found: Standing, stuck_minutes: float) -> Sequence[Stuck]:
    """Everything that is; an installation of which nothing runs is not stuck."""
    if not found.relay_lives and not found.processes:
        return ()
    return [*_relay(found), *_workers(found.processes), *_events(found, stuck_minutes)]


def _relay(found: Standing) -> Iterator[Stuck]:
    if found.relay_lives:
        for duty in found.duties:
            if duty.seconds > duty.patience_seconds:
                yield Stuck("relay", _of_duty(duty))
        return
    since = "has ever told" if found.relay_seconds is None else f"has told for {_span(found.relay_seconds)}"
    yield Stuck(
        "relay",
        f"no relay {since} of itself, though workers run: what waits is not queued again, and nothing is handed over;"
        " start `penstock relay`",
    )


def _of_duty(duty: Duty) -> str:
    done = _DUTIES.get(duty.name, f"done its duty {duty.name}")
    why = f" ({duty.error})" if duty.error else ""
    return (
        f"it has not {done} for {_span(duty.seconds)}{why}: its log says more under duty={duty.name}; mend what the"
        " reason names, or start it anew"
    )


def _workers(processes: Sequence[Process]) -> Iterator[Stuck]:
    for process in processes:
        if process.failing_seconds is not None and process.failing_seconds >= 60 * FAILING_MINUTES:
            yield Stuck(
                f"worker {process.name}",
                f"its tasks have only failed for {_span(process.failing_seconds)}, last with {process.error}: mend what"
                " the reason names; its log has the traceback",
            )


def _events(found: Standing, stuck_minutes: float) -> Iterator[Stuck]:
    for event in found.unplanned:
        if event.seconds >= 60 * stuck_minutes:
            yield Stuck(f"{event.provider} {event.account}", _of_event(event, found.processes), not event.background)


def _of_event(event: Unplanned, processes: Sequence[Process]) -> str:
    # A process is named `worker-imin-paybook-4711`, after all whose events it follows up.
    followers = [process for process in processes if event.provider in process.name.split("-")[1:-1]]
    stands = f"event {event.event} has been received for {_span(event.seconds)} and nobody plans it"
    if not followers:
        return f"{stands}: no worker of {event.provider} runs; start `penstock worker {event.provider}`"
    if all(process.failing_seconds is not None for process in followers):
        return f"{stands}: every worker of {event.provider} only fails, see above"
    return (
        f"{stands}: where `penstock stats` shows many as received, start more workers (`penstock worker"
        f" {event.provider} --concurrency 4`); else `penstock events show {event.event}` and the workers' log say why"
    )


def _span(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"  # noqa: PLR2004 - two hours
