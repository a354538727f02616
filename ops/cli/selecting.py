"""From options to what they mean: which events, which hand-overs. Refuses what selects nothing in particular."""

from collections.abc import Sequence
from uuid import UUID

import typer

from ops.cli.choices import Typed, at_of
from shared.store import selecting
from shared.store.handovers import selecting as handover_selecting


def events(
    ids: Sequence[UUID] | None,
    *,
    state: str | None,
    provider: str | None,
    account: str | None,
    kind: str | None,
    error: str | None,
    since: Typed | None,
    until: Typed | None,
) -> selecting.Selection:
    """Events by id, or by filters. Raises BadParameter."""
    _require_one_way(ids, any((state, provider, account, kind, error, since, until)))
    _require_order(since, until)
    named = tuple(dict.fromkeys(ids or ()))
    return selecting.Selection(named, provider, account, state, kind, error, at_of(since), at_of(until))


def handovers(
    ids: Sequence[int] | None,
    *,
    named: Sequence[str] | None,
    handler: str | None,
    state: str | None,
    provider: str | None,
    kind: str | None,
    error: str | None,
    since: Typed | None,
    until: Typed | None,
    after: int | None = None,
) -> handover_selecting.Selection:
    """Hand-overs by id, or by filters and changes, which are yet to be looked up. Raises BadParameter."""
    filtered = any((named, handler, state, provider, kind, error, since, until)) or after is not None
    _require_one_way(ids, filtered)
    _require_order(since, until)
    return handover_selecting.Selection(
        tuple(dict.fromkeys(ids or ())),
        handler=handler,
        state=state,
        provider=provider,
        kind=kind,
        error=error,
        since=at_of(since),
        until=at_of(until),
        after=after,
    )


def _require_one_way(named: object, filtered: bool) -> None:
    """Refuse a command that names nothing in particular, or names things both by id and by filters."""
    if named and filtered:
        raise typer.BadParameter("name them by id or select them by filters, not both")
    if not named and not filtered:
        raise typer.BadParameter(
            "name them by id, or select them by a filter: nothing is done to all of them by a slip"
        )


def _require_order(since: Typed | None, until: Typed | None) -> None:
    """Refuse a time that ends before it begins."""
    if since and until and since.at >= until.at:
        raise typer.BadParameter("--until must lie after --since")
