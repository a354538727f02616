"""What may be typed for a provider, a state or a moment; anything else is bad usage, with a sentence."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import typer


EventState = Literal["received", "processing", "waiting", "done", "duplicate", "parked", "failed", "quarantined"]

HandoverState = Literal["pending", "running", "waiting", "done", "parked", "discarded"]

_AGO: Final = re.compile(r"(\d{1,9})([smhd])")
_RATE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(?:/([smh]))?")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def known_provider(name: str | None) -> str | None:
    """The name, if there is such a provider."""
    from shared.providers.registry import PROVIDERS  # noqa: PLC0415 - only when a provider is named: it costs start-up

    if name is not None and name not in PROVIDERS:
        raise typer.BadParameter(f"there is no provider {name}; known are {', '.join(PROVIDERS)}")
    return name


def moment(text: str) -> datetime:
    """An ISO 8601 time (UTC unless it says otherwise), or an age such as ``90s``, ``15m``, ``2h``, ``7d``."""
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter("write a time such as 2026-05-01T12:00Z, or an age such as 15m, 2h or 7d") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Typed:
    """A moment, and what was typed for it: ``2h`` is the same request an hour later, another moment."""

    at: datetime
    text: str


def typed_moment(text: str) -> Typed:
    """As ``moment``, with what was typed."""
    return Typed(moment(text), text)


def at_of(typed: Typed | None) -> datetime | None:
    """The moment, if one was typed."""
    return typed.at if typed else None


def per_second(text: str) -> float:
    """A rate such as ``50/s``, ``600/m``, ``1000/h``, or a plain number a second."""
    if not (rate := _RATE.fullmatch(text)) or not (count := float(rate[1])):
        raise typer.BadParameter("write a rate such as 50/s, 600/m or 1000/h")
    return count / _UNIT_SECONDS[rate[2] or "s"]


def change_name(text: str) -> str:
    """The name of a change: its seq, or its id."""
    from shared.store.handovers.message_ids import block_of  # noqa: PLC0415 - as above

    if not text.isdecimal() and block_of(text) is None:
        raise typer.BadParameter(
            "write a place in the feed, such as 349, or the id of a message: chg_ and 32 hexadecimal digits"
        )
    return text


Provider = Annotated[str | None, typer.Option(help="Only of this provider.", callback=known_provider)]
Account = Annotated[str | None, typer.Option(help="Only of this account.")]
State = Annotated[EventState | None, typer.Option(help="Only in this state.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=moment, metavar="TIME", help="Only received since: a time, or an age such as 15m, 2h, 7d."),
]
DeadState = Annotated[Literal["parked", "failed"] | None, typer.Option("--state", help="Only in this state.")]
ChangeName = Annotated[
    str | None,
    typer.Option(
        "--change", parser=change_name, metavar="SEQ|ID", help="Only of this change: its seq, or its id (webhook-id)."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--change",
        parser=change_name,
        metavar="SEQ|ID",
        help="Those of this change, by its seq or its id (webhook-id); repeatable.",
    ),
]
HandedOver = Annotated[HandoverState | None, typer.Option("--state", help="Only in this state.")]
Handler = Annotated[str | None, typer.Option(help="Only of this handler.")]
Kind = Annotated[str | None, typer.Option(help="Only of this record kind, such as magicline.customer.")]
SinceTyped = Annotated[
    Typed | None,
    typer.Option("--since", parser=typed_moment, metavar="TIME", help="Only since: a time, or an age such as 2h, 7d."),
]
UntilTyped = Annotated[
    Typed | None,
    typer.Option("--until", parser=typed_moment, metavar="TIME", help="Only until: a time, or an age. [now]"),
]
EventType = Annotated[
    str | None,
    typer.Option("--kind", help="Only with this event type, such as CUSTOMER_UPDATED (`events list` shows it)."),
]
Error = Annotated[str | None, typer.Option(help="Only with this reason, such as attempts-used-up.")]
Rate = Annotated[
    float | None,
    typer.Option(
        parser=per_second, metavar="N/s", help="At most so many a second, such as 50/s. [as fast as the store takes it]"
    ),
]
Limit = Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
