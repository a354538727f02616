"""What a worker says of a Redis that comes and goes: each thing once."""

import logging

from workers.reconnecting import LOGGERS, OnceAMinute, quieten


def _record(
    message: str, error: Exception | None = None, level: int = logging.WARNING, args: tuple[str, ...] = ()
) -> logging.LogRecord:
    cause = (type(error), error, None) if error else None
    return logging.LogRecord(LOGGERS[0], level, "", 0, message, args, cause)


def test_the_same_loss_is_said_once_and_another_one_at_once() -> None:
    """As after a failover: each try connects and the next write is refused, many times a second."""
    once = OnceAMinute()
    lost = [_record("lost", OSError("READONLY")) for _ in range(50)]
    back = [_record("Connected") for _ in range(50)]

    said = [once.filter(record) for pair in zip(lost, back, strict=True) for record in pair]

    assert [True, True] + [False] * 98 == said
    assert once.filter(_record("lost", OSError("Connection refused")))


def test_what_differs_only_in_how_often_it_was_tried_is_said_once() -> None:
    """The address comes first; warnings are all of one format, and are told apart by their text."""
    once = OnceAMinute()
    tries = [_record("Cannot connect to %s: %s", args=("redis://here", f"try {number}")) for number in range(3)]
    warnings = [_record("%s", args=(text,)) for text in ("one", "other", "one")]

    assert [True, False, False] == [once.filter(record) for record in tries]
    assert [True, True, False] == [once.filter(record) for record in warnings]


def test_a_traceback_becomes_its_cause() -> None:
    """One line says what happened; what ends the worker keeps its traceback."""
    record, grave = _record("lost", OSError("READONLY")), _record("ends", OSError("no memory"), logging.CRITICAL)
    for each in (record, grave):
        assert OnceAMinute().filter(each)

    assert (None, "OSError: READONLY") == (record.exc_info, getattr(record, "reason", None))
    assert grave.exc_info


def test_each_logger_is_quietened_once() -> None:
    """Logging is set up in the main process and again in each child."""
    for _ in range(3):
        quieten()

    found = [[type(each) for each in logging.getLogger(name).filters].count(OnceAMinute) for name in LOGGERS]
    assert [1] * len(LOGGERS) == found
