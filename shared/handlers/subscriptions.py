"""What each handler wants, in the form that the store takes."""

from penstock.handlers import Handler as PythonHandler
from shared.handlers.settings import Handler
from shared.store.handovers.handing_over import Subscription


def of_settings(handler: Handler) -> Subscription:
    """Of a handler by HTTP."""
    return Subscription(
        name=handler.name,
        kinds=handler.kinds,
        ops=handler.ops,
        beginning=handler.start == "beginning",
        concurrency=handler.concurrency,
        target=handler.url,
        calls=handler.budget.calls if handler.budget else 0,
        seconds=handler.budget.seconds if handler.budget else 60.0,
    )


def of_python(handler: PythonHandler) -> Subscription:
    """Of a registered function."""
    return Subscription(
        name=handler.name,
        kinds=sorted(handler.kinds),
        ops=sorted(handler.ops),
        beginning=handler.start == "beginning",
        concurrency=handler.concurrency,
        alone=True,
    )
