"""``penstock`` itself: help, errors in one sentence, exit statuses, completion, and a quick start."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from operators.conftest import clean_environment
from operators.rows import record
from ops.cli import COMMANDS
from shared.store.migrating import newest


NOWHERE = "postgresql://someone:secret-word@127.0.0.1:1/x"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_its_help_has_examples(name: str) -> None:
    """Its module loads, and each of its sub-commands shows how it is typed."""
    command = typer.main.get_command(import_module(f"ops.cli.{COMMANDS[name].module}").app)
    commands = [command]
    while commands:
        each = commands.pop()
        if below := getattr(each, "commands", None):
            commands += below.values()
        else:
            assert "penstock " in (each.epilog or "")


def test_help_lists_every_command_and_imports_none(penstock: Any) -> None:
    """Nor what they need: it is there at once, however much there is."""
    result = penstock("--help", program=("-X", "importtime", "-m", "ops"))
    imported = {
        line.rpartition("|")[2].strip() for line in result.errors.splitlines() if line.startswith("import time:")
    }

    assert 0 == result.status
    assert set(COMMANDS) <= set(re.findall(r"[a-z]+", result.output.decode()))
    assert "ops.cli" in imported
    commands = {f"ops.cli.{entry.module}" for entry in COMMANDS.values()}
    assert set() == imported & {*commands, "sqlalchemy", "asyncpg", "celery", "redis", "pydantic", "starlette", "httpx"}


def test_a_mistyped_command_is_bad_usage_with_a_suggestion(penstock: Any) -> None:
    """Exit status 2, and nothing on standard output."""
    result = penstock("evnts")
    assert (2, b"") == (result.status, result.output)
    assert "Did you mean 'events'?" in result.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "list"),
        ("events", "replay", "--state", "failed"),
        ("records", "list", "--json"),
        ("changes", "tail"),
        ("stats",),
        ("accounts", "list"),
        ("migrate",),
        ("migrate", "--check"),
    ],
)
def test_a_database_that_is_away_is_one_sentence_without_its_password(
    penstock: Any, arguments: tuple[str, ...]
) -> None:
    """Exit status 1; the sentence says which URL was tried."""
    result = penstock(*arguments, PENSTOCK_DATABASE_URL=NOWHERE)
    assert (1, b"", 1) == (result.status, result.output, result.errors.count("\n"))
    assert result.errors.startswith("penstock: Postgres does not answer at postgresql://someone@127.0.0.1:1/x: ")


def test_a_database_that_goes_away_in_the_middle_is_one_sentence(store: Any, penstock: Any) -> None:
    """Also when the server ends the connection while a command runs."""
    store.run("""
        CREATE OR REPLACE FUNCTION end_it() RETURNS text LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN ''; END $$
    """)
    store.run(
        "DROP TABLE records",
        """
        CREATE VIEW records AS
        SELECT 'p' AS provider, 'a' AS account, 'k' AS kind, end_it() AS external_id, '{}'::jsonb AS data,
               now() AS fetched_at, now() AS changed_at, now() AS deleted_at, NULL::uuid AS event_id,
               NULL::bytea AS sealed
        """,
    )
    result = penstock("records", "list")
    assert (1, 1) == (result.status, result.errors.count("\n"))
    assert result.errors.startswith("penstock: Postgres does not answer at ")


def test_a_database_without_tables_is_told_to_be_migrated(postgres: Any, penstock: Any) -> None:
    """Exit status 1 and the command that helps."""
    url = f"{postgres.url.rpartition('/')[0]}/postgres"
    for arguments in (("events", "list"), ("stats",), ("changes", "tail"), ("events", "replay", "--state", "failed")):
        result = penstock(*arguments, PENSTOCK_DATABASE_URL=url)
        assert (1, 1) == (result.status, result.errors.count("\n"))
        assert "run `penstock migrate`" in result.errors


def test_without_any_database_the_sentence_says_how_to_have_one(penstock: Any) -> None:
    """Neither set nor running here."""
    result = penstock("stats", PENSTOCK_DATABASE_URL=None)
    assert 1 == result.status
    assert "PENSTOCK_DATABASE_URL" in result.errors


@pytest.mark.parametrize(
    ("arguments", "variable"), [(("stats",), "PENSTOCK_DATABASE_URL"), (("stats",), "PENSTOCK_REDIS_URL")]
)
def test_what_is_no_url_is_named(penstock: Any, arguments: tuple[str, ...], variable: str) -> None:
    """The sentence names the variable."""
    result = penstock(*arguments, **{variable: "nonsense"})
    assert (1, 1) == (result.status, result.errors.count("\n"))
    assert variable in result.errors


def test_a_full_disk_is_one_sentence(store: Any, tmp_path: Path) -> None:
    """It is about standard output, not about the database."""
    store.run(record("abc"))
    command = [sys.executable, "-m", "ops", "records", "list", "--json"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command,
            check=False,
            env=clean_environment({"PENSTOCK_DATABASE_URL": store.url}),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert b"penstock: standard output cannot be written to: No space left on device\n" == done.stderr
    assert 1 == done.returncode


def test_an_unexpected_error_is_a_sentence_and_its_traceback_is_there_on_demand(store: Any, penstock: Any) -> None:
    """A table that somebody has altered is nothing that a command reckons with; PENSTOCK_DEBUG=1 shows where it was."""
    store.run("ALTER TABLE records DROP COLUMN data CASCADE")
    result = penstock("records", "list")
    assert (1, b"", 1) == (result.status, result.output, result.errors.count("\n"))
    assert result.errors.startswith("penstock: something unexpected went wrong (ProgrammingError: ")
    assert result.errors.endswith("; PENSTOCK_DEBUG=1 shows where\n")
    debugged = penstock("records", "list", PENSTOCK_DEBUG="1")
    assert 1 == debugged.status
    assert "Traceback" in debugged.errors
    assert debugged.errors.endswith(result.errors)


def test_a_reader_that_closes_its_end_early_is_no_error(store: Any, tmp_path: Path) -> None:
    """``penstock records list --json | head -1`` prints its line and nothing else."""
    store.run("""
        INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
        SELECT 'p', 'a', 'k', n::text, '{}', 1, now(), now() FROM generate_series(1, 20000) AS n
    """)
    environment = clean_environment({"PENSTOCK_DATABASE_URL": store.url})
    command = [sys.executable, "-m", "ops", "records", "list", "--json", "--limit", "0"]
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"provider":"p"')
        process.stdout.close()
        assert b"" == process.stderr.read()


def test_shells_complete_commands_and_what_is_below_them(penstock: Any) -> None:
    """Bash is offered the commands of the table, and the sub-commands of one that is loaded for it."""
    for words, expected in (("penstock ev", "events"), ("penstock events re", "replay")):
        variables = {"_PENSTOCK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        assert expected in penstock(**variables).output.decode().split()


def test_a_new_key_is_printed_that_the_settings_take(penstock: Any) -> None:
    """One line, another one each time."""
    first, second = (penstock("keys", "generate").output.decode() for _ in range(2))
    assert first != second
    assert 0 == penstock("events", "list", PENSTOCK_ENCRYPTION_KEYS=first.strip()).status
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}=\n", first)


def test_a_fresh_database_is_migrated_once(empty_database_url: str, penstock: Any) -> None:
    """``--check`` changes nothing and fails until it is done; a second run finds nothing to do."""
    missing = penstock("migrate", "--check", PENSTOCK_DATABASE_URL=empty_database_url)
    needed = f"the database is at revision none, this version needs {newest()}: run `penstock migrate`"
    assert (1, f"penstock: {needed}\n") == (missing.status, missing.errors)
    done = penstock("migrate", PENSTOCK_DATABASE_URL=empty_database_url)
    assert (0, f"The database is at revision {newest()} now; it was at none.\n".encode()) == (done.status, done.output)
    for arguments in (("migrate",), ("migrate", "--check")):
        again = penstock(*arguments, PENSTOCK_DATABASE_URL=empty_database_url)
        assert (0, f"The database is at revision {newest()}, the newest.\n".encode()) == (again.status, again.output)
