"""The pages of the site: ``docs/`` and the documents that lie beside what they describe, with links that fit."""

import os
import re
import shutil
from pathlib import Path, PurePosixPath


PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy/index.md",
    "deploy/monitoring/README.md": "deploy/monitoring.md",
    "shared/providers/imin/README.md": "providers/imin-facts.md",
    "shared/providers/magicline/README.md": "providers/magicline-facts.md",
    "shared/providers/paybook/README.md": "providers/paybook-facts.md",
    "shared/providers/authenteq/README.md": "providers/authenteq-facts.md",
}
"""Documents outside ``docs/`` -> where they are on the site. README.md is what ``docs/index.md`` is there."""

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_DEFINITION = re.compile(r"^(\[[^\]]+\]: )(\S+)$", re.MULTILINE)
_BLOCK = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def stage(root: Path, into: Path) -> None:
    """Copy every page of the site into a folder that is emptied first."""
    shutil.rmtree(into, ignore_errors=True)
    for source in sorted((root / "docs").rglob("*")):
        if source.is_file() and "quick" not in source.parts:
            _copy(root, source.relative_to(root).as_posix(), into)
    for source_name in PLACES:
        if source_name != "README.md":
            _copy(root, source_name, into)


def place_of(name: str) -> str | None:
    """Where a file of the repository is on the site; None when it is not."""
    if name in PLACES:
        return PLACES[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else None


def linked(text: str, name: str, root: Path) -> str:
    """The text of a document with links that lead to the same documents on the site.

    A link to a file that is not on the site, such as code, becomes its own words.
    """
    pieces = _BLOCK.split(text)  # every second piece is a block of code, which stays as it is
    return "".join(piece if number % 2 else _relinked(piece, name, root) for number, piece in enumerate(pieces))


def _relinked(text: str, name: str, root: Path) -> str:
    def inline(match: re.Match[str]) -> str:
        target = _target(match[2], name, root)
        return match[1] if target is None else f"[{match[1]}]({target})"

    def defined(match: re.Match[str]) -> str:
        return f"{match[1]}{_target(match[2], name, root) or match[2]}"

    return _DEFINITION.sub(defined, _LINK.sub(inline, text))


def _target(target: str, name: str, root: Path) -> str | None:
    """What a link in the document leads to on the site; None where that is not there."""
    path, hash_, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return target
    there = os.path.normpath(PurePosixPath(name).parent / path)
    if (root / there).is_dir():
        there = f"{there}/README.md"
    place = place_of(there)
    if place is None:
        return None
    here = PurePosixPath(place_of(name) or name).parent
    return f"{os.path.relpath(place, here)}{hash_}{anchor}"


def _copy(root: Path, name: str, into: Path) -> None:
    target = into / (place_of(name) or name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".md"):
        target.write_text(linked((root / name).read_text(encoding="utf-8"), name, root), encoding="utf-8")
    else:
        shutil.copyfile(root / name, target)
