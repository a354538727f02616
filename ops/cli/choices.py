"""What may be typed for a provider, a state or a moment; anything else is bad usage, with a sentence."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import typer


EventState = Literal["received", "processing", "waiting", "done", "duplicate", "parked", "failed", "quarantined"]

_AGO: Final = re.compile(r"(\d{1,9})([smhd])")
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


Provider = Annotated[str | None, typer.Option(help="Only of this provider.", callback=known_provider)]
Account = Annotated[str | None, typer.Option(help="Only of this account.")]
State = Annotated[EventState | None, typer.Option(help="Only in this state.")]
Since = Annotated[
    datetime | None,
    typer.Option(parser=moment, metavar="TIME", help="Only received since: a time, or an age such as 15m, 2h, 7d."),
]
Limit = Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
