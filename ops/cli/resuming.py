"""A replay's row around the work: the same command typed again goes on where it was broken off, one at a time."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import typer

from ops.cli.choices import Typed, at_of
from ops.cli.output import moment, note
from ops.operator import operator
from shared.store import replays
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

    Raises UnderWay while the same is running elsewhere.
    """
    since, until = times
    said = {
        **{name: value for name, value in asked.items() if value},
        **{name: typed.text for name, typed in (("since", since), ("until", until)) if typed},
    }
    order = Order(what, said, at_of(since), at_of(until), reason, operator())
    async with replays.carried_out(connection, order) as run:
        if run.resumed:
            note(
                f"Going on with replay {run.id}, which {run.who} began at {moment(run.began_at)}: what came in since is"
                " not part of it."
            )
        yield run


def given_reason(text: str) -> str:
    """A reason that says something."""
    if not text.strip():
        raise typer.BadParameter("say why: the reason is kept")
    return text.strip()
