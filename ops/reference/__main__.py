"""``python -m ops.reference``: renew the generated pages, and put the site's pages together for Zensical."""

from collections.abc import Callable
from pathlib import Path

from ops.reference.commands import commands_page
from ops.reference.settings import settings_page
from ops.reference.site import stage


ROOT = Path(__file__).parents[2]
STAGED = ROOT / "build" / "documents"
"""Where ``zensical.toml`` looks for pages."""

GENERATED: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "reference" / "settings.md": settings_page,
    ROOT / "docs" / "reference" / "commands.md": commands_page,
}
"""page -> what makes it."""


def main() -> None:
    """Write what differs, and copy the rest."""
    for path, make in GENERATED.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(make(), encoding="utf-8")
    stage(ROOT, STAGED)


if __name__ == "__main__":
    main()
