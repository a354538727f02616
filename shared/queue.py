"""Names on the queue: one queue a provider, tasks named after what they do. Ingress publishes by these names alone."""

from typing import Final


HANDLERS_QUEUE: Final = "penstock.handlers"


def queue_of(provider: str) -> str:
    """The queue whose workers follow up this provider's events."""
    return f"penstock.{provider}"


def plan_task(provider: str) -> str:
    """The task that takes event ids and plans their fetches. Argument: a list of event ids (strings)."""
    return f"{provider}.plan"


def fetch_task(provider: str) -> str:
    """The task that takes fetch ids and makes the calls. Argument: a list of fetch ids (integers)."""
    return f"{provider}.fetch"
