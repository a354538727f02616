"""Every line of every process is one JSON object, names whom it is about, and quotes no body and no secret."""

import subprocess
import sys

import orjson
import pytest

from support.conditions import HANG_SECONDS


def lines_of(code: str, log_format: str = "json") -> str:
    """What a process writes that sets up its logs and runs the code."""
    whole = f"""
import logging, warnings, structlog
from shared.logs import set_up_logs
set_up_logs("INFO", {log_format!r})
log = structlog.get_logger("penstock.test")
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", whole], check=True, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert "" == done.stdout
    return done.stderr


def test_all_ways_of_logging_end_in_one_stream_of_json() -> None:
    """structlog, the standard library's logging (celery, uvicorn, flower) and Python's warnings."""
    written = lines_of("""
log.info("one", provider="imin")
logging.getLogger("celery.worker").info("two")
logging.getLogger("uvicorn.error").warning("three")
warnings.warn("four")
""")
    lines = [orjson.loads(line) for line in written.splitlines()]
    assert ["one", "two", "three"] == [line["event"] for line in lines[:3]]
    assert "four" in lines[3]["event"]
    assert ["penstock.test", "celery.worker", "uvicorn.error", "py.warnings"] == [line["logger"] for line in lines]
    assert ["info", "info", "warning", "warning"] == [line["level"] for line in lines]


def test_what_is_bound_is_on_every_line() -> None:
    """The event's id and its account are on lines of libraries as well."""
    written = lines_of("""
with structlog.contextvars.bound_contextvars(event_id="e-1", account="main"):
    log.info("ours")
    logging.getLogger("aiohttp").warning("theirs")
log.info("later")
""")
    ours, theirs, later = (orjson.loads(line) for line in written.splitlines())
    assert [("e-1", "main")] * 2 == [(line["event_id"], line["account"]) for line in (ours, theirs)]
    assert "event_id" not in later


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_shows_where_but_quotes_nothing(log_format: str) -> None:
    """Of unknown exceptions and of their causes only the type is told; our own sentences are."""
    written = lines_of(
        """
from shared.errors import StoreAway
def fail():
    record = {"name": "SECRET-IN-A-LOCAL-VARIABLE"}
    try:
        raise KeyError("SECRET-" + "IN-A-KEY")
    except KeyError as error:
        raise ValueError("SECRET-" + "IN-A-VALUE") from error
try:
    fail()
except ValueError:
    log.exception("it failed")
    logging.getLogger("theirs").exception("it failed there")
log.error("given", exc_info=StoreAway("Postgres does not answer"))
""",
        log_format,
    )
    assert "SECRET-IN" not in written
    assert written.count("ValueError: (what it says is left out") == 2
    assert written.count("KeyError: (what it says is left out") == 2
    assert "in fail" in written
    assert "Postgres does not answer" in written


def test_a_group_of_exceptions_tells_of_each() -> None:
    """What a task group raises names every failure in it."""
    written = lines_of("""
log.error("both", exc_info=ExceptionGroup("two", [ValueError("SECRET"), OSError("the disk is full")]))
""")
    told = orjson.loads(written)["exception"]
    assert "SECRET" not in told
    assert "ValueError: (what it says is left out" in told
    assert "OSError: the disk is full" in told


def test_a_task_that_fails_does_not_quote_its_exception() -> None:
    """Celery puts the exception's text and the traceback into the sentence and beside it; asyncio its repr."""
    written = lines_of("""
import asyncio, gc
from celery import Celery
app = Celery("test", set_as_current=False)
app.conf.task_ignore_result = True
@app.task(name="imin.plan")
def plan():
    raise ValueError("SECRET-" + "IN-A-TASK")
from celery.app.trace import build_tracer
build_tracer(plan.name, plan, app=app)("task-1", (), {}, {"id": "task-1"})
async def fail():
    raise ValueError("SECRET-" + "IN-A-COROUTINE")
async def main():
    asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
asyncio.run(main())
""")
    assert "SECRET-IN" not in written
    celery, coroutine = (orjson.loads(line) for line in written.splitlines())
    assert ("imin.plan", "task-1") == (celery["task"], celery["task_id"])
    assert "ValueError: (what it says is left out" in celery["exception"]
    assert "Task exception was never retrieved" == coroutine["event"]
