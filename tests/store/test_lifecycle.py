"""The life of an event and of a fetch: the table, the database and the picture say the same."""

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from asyncpg import CheckViolationError, Connection

from shared.store.lifecycle import EVENT_STATES, EVENT_STEPS, FETCH_STATES, FETCH_STEPS, Step


PICTURES = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def picture(steps: Sequence[Step]) -> str:
    """The steps as a Mermaid state diagram."""
    lines = [f"    {step.was or '[*]'} --> {step.becomes or '[*]'} : {step.who}: {step.why}" for step in steps]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


@pytest.mark.parametrize("steps", [EVENT_STEPS, FETCH_STEPS], ids=["events", "fetches"])
def test_the_picture_shows_every_step(steps: Sequence[Step]) -> None:
    """docs/lifecycle.md is drawn from the table."""
    drawn = picture(steps)

    assert drawn in PICTURES.read_text(), f"put this into {PICTURES}:\n{drawn}"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("table", "states", "steps"),
    [("events", EVENT_STATES, EVENT_STEPS), ("fetches", FETCH_STATES, FETCH_STEPS)],
    ids=["events", "fetches"],
)
async def test_the_database_takes_the_steps_of_the_table_and_no_others(
    db: Connection, table: str, states: Sequence[str], steps: Sequence[Step]
) -> None:
    """Every pair of states is tried on a real row."""
    taken = set()
    refusals = set()
    for was in states:
        for becomes in states:
            undone = db.transaction()
            await undone.start()
            await db.execute(INSERT[table], uuid.uuid4(), was)
            try:
                await db.execute(UPDATE[table], becomes)
                taken.add((was, becomes))
            except CheckViolationError as error:
                refusals.add(str(error))
            await undone.rollback()

    allowed = {(step.was, step.becomes) for step in steps if step.was and step.becomes}
    assert allowed | {(state, state) for state in states} == taken
    assert len(refusals) == len(states) ** 2 - len(taken)
    assert f"{table}: no step leads from failed to done" in refusals


UPDATE = {"events": "UPDATE events SET state = $1", "fetches": "UPDATE fetches SET state = $1"}
INSERT = {
    "events": """
        INSERT INTO events (id, provider, account, durability, content_type, headers, body, body_bytes, body_sha256,
                            state)
        VALUES ($1, 'imin', 'main', 'postgres', '', '[]', '', 0, '', $2)
    """,
    "fetches": """
        INSERT INTO fetches (provider, account, resource, path, purpose, context, pick, missing, page, completes, state)
        VALUES ('imin', 'main', uuid_send($1::uuid), '/', '', '{}', '', 'retry', 1, false, $2)
    """,
}
