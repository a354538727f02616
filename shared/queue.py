"""Names on the queue: one queue a provider, tasks named after what they do. Ingress publishes by these names alone."""

from typing import Final


HANDLERS: Final = "handlers"
"""What workers that hand changes over are called where others are called after their provider."""
HANDLERS_QUEUE: Final = f"penstock.{HANDLERS}"
HAND_OVER_TASK: Final = "handlers.hand_over"
"""The task that hands changes to one handler. Argument: its name; what is due to it the store says."""
CANARY_TASK: Final = "penstock.canary"
"""The task by which a worker proves to itself that it works. No arguments."""


def queue_of(provider: str) -> str:
    """The queue whose workers follow up this provider's events."""
    return f"penstock.{provider}"


def plan_task(provider: str) -> str:
    """The task that takes event ids and plans their fetches. Argument: a list of event ids (strings)."""
    return f"{provider}.plan"


def fetch_task(provider: str) -> str:
    """The task that takes fetch ids and makes the calls. Argument: a list of fetch ids (integers)."""
    return f"{provider}.fetch"


def canary_queue(worker: str) -> str:
    """The queue that one worker alone consumes, beside those of its providers. ``worker`` is unlike any other's."""
    return f"penstock.canary.{worker}"
