"""How figures and times read on a page."""

from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup, escape


_NOTHING: Final = "\N{EN DASH}"
_STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def count(number: int | None) -> str:
    """A figure with its thousands apart; a dash where it is unknown."""
    return _NOTHING if number is None else f"{number:,}"


def age(seconds: float | None) -> str:
    """A duration in its two largest units; a dash where there is none."""
    if seconds is None:
        return _NOTHING
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in _STEPS:
        if left >= size or parts:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join([*parts, f"{left} s"][:2])


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def milliseconds(seconds: float | None) -> str:
    """A short time in milliseconds; a dash where there is none."""
    if seconds is None:
        return _NOTHING
    amount = seconds * 1000
    return f"{amount:,.1f} ms" if amount < 10 else f"{amount:,.0f} ms"  # noqa: PLR2004 - three digits say enough


def size(octets: int) -> str:
    """A number of bytes as people read it."""
    amount = float(octets)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024 or unit == "MiB":  # noqa: PLR2004 - the definition of the units
            break
        amount /= 1024
    return f"{octets:,} bytes" if unit == "bytes" else f"{amount:,.1f} {unit}"


def sentence(text: str) -> Markup:
    """A clause as a sentence: with a capital, a full stop where it has none, and `commands` set as such."""
    whole = f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}" if text else ""
    parts = whole.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )
