"""What a settings file no longer says, and which of it stays in force: absence is not an instruction.

A file may be away, empty or only half written at the moment it is read: an editor or ``cp`` truncates it and writes, a
template deletes it first, a disk is full, a volume is mounted anew. Cut at the end of a line TOML is valid, and says
less. So what it names is taken over, and what it no longer names is left as it was.
"""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias


Place: TypeAlias = tuple[str, ...]
"""Where something stands in the file; an entry of a list of tables goes by its name."""

_ENTRIES: Final = frozenset({"accounts", "handlers"})
"""The lists whose entries stay one by one. A user of the console who is taken out is out: nobody comes in by that."""

_OPEN_NUMBER: Final = re.compile(r"^[ \t]*([\w-]+)[ \t]*=[^\n]*\Z", re.MULTILINE)
_HEADER: Final = re.compile(r"^[ \t]*\[.*$", re.MULTILINE)


class Kept(NamedTuple):
    """The document that is in force, and what of it the file no longer says."""

    document: dict[str, Any]
    vanished: Sequence[Place]


def keep(before: Mapping[str, Any], document: Mapping[str, Any], text: str) -> Kept:
    """The document, with what it lacks of the one before.

    Kept are accounts, handlers and whole tables. A single key is taken to be gone on purpose, unless it stood in the
    last table of ``text``: that is where a file that was cut ends. So is a number for another one, unless its line
    has no end: ``36`` may be what is there of ``365``.
    """
    vanished: list[Place] = []
    end = _end(document, text)
    number = found[1] if (found := _OPEN_NUMBER.search(text)) else ""

    def tables(old: Mapping[str, Any], new: Mapping[str, Any], at: Place, *, entry: bool = False) -> dict[str, Any]:
        merged = dict(new)
        for key, value in old.items():
            place = (*at, key)
            if key not in new:
                if (not entry and _is_tables(value)) or _within(at, end):
                    merged[key] = value
                    vanished.append(place)
            elif key == number and _within(at, end) and isinstance(new[key], int | float) and new[key] != value:
                merged[key] = value
                vanished.append(place)
            elif isinstance(value, dict) and isinstance(new[key], dict):
                merged[key] = tables(value, new[key], place, entry=entry)
            elif key in _ENTRIES and not entry and _is_tables(value) and isinstance(new[key], list):
                merged[key] = entries(value, new[key], place)
        return merged

    def entries(old: Sequence[Any], new: Sequence[Any], at: Place) -> list[Any]:
        known = {_name(one): one for one in old}
        merged = [
            tables(known[name], one, (*at, name), entry=True)
            if isinstance(one, dict) and (name := _name(one)) in known
            else one
            for one in new
        ]
        still = {_name(one) for one in new}
        vanished.extend((*at, name) for name in known.keys() - still)
        return [*merged, *(one for name, one in known.items() if name not in still)]

    return Kept(tables(before, document, ()), sorted(vanished))


def without(document: Mapping[str, Any], accounts: Collection[tuple[str, str]]) -> dict[str, Any]:
    """The document without these (provider, name) accounts, which are not to stay when the file lacks them."""
    found = dict(document)
    for provider in {provider for provider, _ in accounts} & found.keys():
        section = dict(found[provider])
        section["accounts"] = [one for one in section.get("accounts", ()) if (provider, _name(one)) not in accounts]
        # A list with nothing in it has not vanished where the file lacks it.
        found[provider] = {key: value for key, value in section.items() if key != "accounts" or value}
        if not found[provider]:
            del found[provider]
    return found


def accounts_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The provider and name of every account that it has."""
    for provider, section in document.items():
        if isinstance(section, dict) and isinstance(found := section.get("accounts"), list):
            yield from ((provider, _name(one)) for one in found)


def title(place: Place) -> str:
    """A place as the file would have it: ``[[imin.accounts]] main webhook_keys``, ``[retry] max_attempts``."""
    for number, part in enumerate(place):
        if part in _ENTRIES and number < len(place) - 1:
            return " ".join((f"[[{'.'.join(place[: number + 1])}]]", place[number + 1], *place[number + 2 :]))
    if place[-1] in _ENTRIES:
        return f"[[{'.'.join(place)}]]"
    return f"[{place[0]}] {'.'.join(place[1:])}".rstrip()


def _end(document: Mapping[str, Any], text: str) -> Place | None:
    """The place of the last table: what follows it is missing, if anything is. None: there is no table."""
    for header in reversed(_HEADER.findall(text)):
        try:
            at: Any = tomllib.loads(header)
        except ValueError:
            continue  # a line of an array, or of a text over several lines
        place: Place = ()
        found: Any = document
        while isinstance(at, dict) and at:
            (key, at), *_ = at.items()
            if not isinstance(found, dict) or key not in found:
                break
            place, found = (*place, key), found[key]
            if isinstance(found, list):
                return (*place, _name(found[-1])) if found else place
            if isinstance(at, list):
                break
        if place:
            return place
    return None


def _within(at: Place, end: Place | None) -> bool:
    return end is not None and (at[: len(end)] == end)


def _is_tables(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)
    )


def _name(entry: object) -> str:
    return str(entry.get("name")) if isinstance(entry, dict) else ""
