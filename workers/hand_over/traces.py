"""The last step of an event's trace: a change of it is given to the application."""

from contextlib import AbstractContextManager, nullcontext

from shared.handlers.change import OutgoingChange
from shared.tracing import Span, Tracing


def handing_over_traced(
    tracing: Tracing | None, handler: str, change: OutgoingChange | None
) -> AbstractContextManager[Span | None]:
    """Hand over within this block; what the application does meanwhile in this process belongs to the same trace."""
    if tracing is None or change is None or change.event_id is None:
        return nullcontext()
    about: dict[str, str | int] = {
        "penstock.provider": change.provider,
        "penstock.account": change.account,
        "penstock.handler": handler,
        "penstock.change": change.id,
    }
    return tracing.call(f"hand over to {handler}", [change.event_id], about)
