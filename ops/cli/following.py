"""Work on many rows as it goes: what became of each is printed or counted, and in the end told in a line for people."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ops.cli.output import Column, note, print_json, print_table


class Told(NamedTuple):
    """How rows of a kind are told of: one, many, a table's columns, and a sentence for each outcome."""

    one: str
    many: str
    columns: Sequence[Column]
    explanations: Mapping[Any, str]

    def counted(self, number: int) -> str:
        """``1 event``, ``1,201 events``."""
        return f"{number:,} {self.one if number == 1 else self.many}"


_EVENT = (
    Column("id", lambda event: event.id),
    Column("provider", lambda event: event.provider),
    Column("account", lambda event: event.account),
    Column("state", lambda event: event.state),
)
_HANDOVER = (
    Column("id", lambda handover: handover.id),
    Column("handler", lambda handover: handover.handler),
    Column("seq", lambda handover: handover.seq, figure=True),
    Column("state", lambda handover: handover.state),
)
_CHANGE = (
    Column("handler", lambda change: change.handler),
    Column("seq", lambda change: change.seq, figure=True),
    Column("op", lambda change: change.op),
    Column("kind", lambda change: change.kind),
    Column("of", lambda change: change.external_id),
)


def events_told(explanations: Mapping[Any, str]) -> Told:
    """Events, with what becomes of them."""
    return Told("event", "events", _EVENT, explanations)


def handovers_told(explanations: Mapping[Any, str]) -> Told:
    """The same of hand-overs."""
    return Told("hand-over", "hand-overs", _HANDOVER, explanations)


def changes_told(explanations: Mapping[Any, str]) -> Told:
    """The same of changes."""
    return Told("change", "changes", _CHANGE, explanations)


async def follow(
    batches: AsyncIterator[Sequence[Any]],
    told: Told,
    *,
    listed: bool,
    as_json: bool,
    seen: Callable[[Any], None] | None = None,
) -> Counter[Any]:
    """Count what became of the rows of each batch, and print them if they are ``listed`` or wanted as JSON."""
    columns = (*told.columns, Column("what", lambda row: told.explanations[row.outcome]))
    outcomes: Counter[Any] = Counter()
    with _progress(visible=not (listed or as_json)) as progress:
        line = progress.add_task("", total=None)
        async for batch in batches:
            outcomes.update(row.outcome for row in batch)
            if seen:
                for row in batch:
                    seen(row)
            progress.update(line, description=told.counted(outcomes.total()))
            if as_json:
                print_json([row._asdict() for row in batch])
            elif listed:
                print_table(batch, columns)
    return outcomes


def tell(outcomes: Counter[Any], told: Told, unless: Collection[str] = ()) -> None:
    """A line for people on what became of how many, all but ``unless``."""
    for outcome, number in outcomes.items():
        if outcome not in unless:
            note(f"{told.counted(number)}: {told.explanations[outcome]}")
    if not outcomes:
        note(f"There is no such {told.one}.")


def _progress(*, visible: bool) -> Progress:
    """A line on a terminal, nothing elsewhere."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not (visible and sys.stderr.isatty()),
        transient=True,
    )
