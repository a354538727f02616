"""Structured logs, one line an event. What is logged names ids, accounts and reasons; never bodies, headers or keys."""

import logging
import logging.config
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from shared import tracebacks


def set_up_logs(level: str, log_format: str) -> None:
    """Route structlog and the standard library's logging into one stream of lines on standard error.

    ``log_format`` is ``json``, ``console``, or ``auto`` (console on a terminal, JSON elsewhere). What is bound with
    ``structlog.contextvars`` (``event_id``, ``account``) appears on every line.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _without_repetition,
    ]
    # A console shows tracebacks as people read them; a JSON line keeps them in one field.
    ending: list[Processor] = (
        [
            # Its default shows the local variables of each frame, and bodies and keys with them.
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=tracebacks.on_screen)
        ]
        if console
        else [tracebacks.as_field, _event_first, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    # What Python and libraries warn of would be text between the lines.
    logging.captureWarnings(capture=True)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "lines": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
            # What these say of every call and task at INFO, the timeline says better; a URL may name a person.
            "loggers": {name: {"level": "WARNING"} for name in ("httpx", "celery.worker.strategy", "celery.app.trace")},
            "root": {"handlers": ["stderr"], "level": level.upper()},
        }
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared[:-2],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _without_repetition(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Libraries say again in their sentence what is in the line's fields, and with it what exceptions quote."""
    # Uvicorn says its lines twice, once with colours.
    event.pop("color_message", None)
    match event:
        case {"logger": "celery.app.trace", "data": {"name": task, "id": task_id, "description": what}}:
            del event["data"]
            event.update(event=f"a task {what}", task=task, task_id=task_id)
        case {"logger": "asyncio", "event": str(sentence)}:
            event["event"] = sentence.partition("\n")[0]
    return event


def _event_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Time, level and sentence first: a line is read from its beginning."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**first, **event}
