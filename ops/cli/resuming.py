"""A replay's row around the work: the same command typed again goes on where it was broken off, one at a time."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import typer

from ops.cli.choices import Typed, at_of
from ops.cli.output import moment, note
from ops.operator import operator
from shared.errors import PenstockError
from shared.store import replays
from shared.store.locking import alone
from shared.store.postgres import Connection
from shared.store.replays import Order, Running, What


@asynccontextmanager
async def resumable(
    connection: Connection,
    what: What,
    asked: Mapping[str, Any],
    times: tuple[Typed | None, Typed | None],
    reason: str,
) -> AsyncIterator[Running]:
    """A new replay, or the same one that was broken off; its row is finished unless the block raises.

    Raises PenstockError while the same is running elsewhere.
    """
    since, until = times
    said = {
        **{name: value for name, value in asked.items() if value},
        **{name: typed.text for name, typed in (("since", since), ("until", until)) if typed},
    }
    async with alone(connection, "replay", what, msgspec.json.encode(said, order="sorted").decode()) as mine:
        if not mine:
            raise PenstockError(
                "the same replay is running at this moment: `penstock replays list` shows it; nothing was done"
            )
        order = Order(what, said, at_of(since), at_of(until), reason, operator())
        run = await replays.open_replay(connection, order)
        if run.resumed:
            note(
                f"Going on with replay {run.id}, which {run.who} began at {moment(run.began_at)}: what came in since is"
                " not part of it."
            )
        yield run
        await replays.finish(connection, run.id)


def tell(
    outcomes: Counter[Any], explanations: Mapping[Any, str], nouns: tuple[str, str], unless: Collection[str] = ()
) -> None:
    """A line for people on what became of how many, all but ``unless``."""
    one, many = nouns
    for outcome, number in outcomes.items():
        if outcome not in unless:
            note(f"{number:,} {one if number == 1 else many}: {explanations[outcome]}")
    if not outcomes:
        note(f"There is no such {one}.")


def require_one_way(named: object, filtered: bool) -> None:
    """Refuse a command that names nothing in particular, or names things both by id and by filters."""
    if named and filtered:
        raise typer.BadParameter("name them by id or select them by filters, not both")
    if not named and not filtered:
        raise typer.BadParameter(
            "name them by id, or select them by a filter: nothing is done to all of them by a slip"
        )


def require_order(since: Typed | None, until: Typed | None) -> None:
    """Refuse a time that ends before it begins."""
    if since and until and since.at >= until.at:
        raise typer.BadParameter("--until must lie after --since")


def given_reason(text: str) -> str:
    """A reason that says something."""
    if not text.strip():
        raise typer.BadParameter("say why: the reason is kept")
    return text.strip()
