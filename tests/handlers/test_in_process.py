"""Changes handed to an application's own functions: typed, one at a time per record, interrupted, tried again."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal

import pytest

from handlers.conftest import PATIENT, Store, handler
from handlers.receiving import receiving
from penstock import Change, on
from penstock.records import MagiclineCustomer
from workers.hand_over.delivering import HandingOver


Handing = Callable[[str], HandingOver]


def test_a_function_receives_a_typed_change_with_its_key(store: Store, handing: Handing) -> None:
    """The record is the kind's model; what the model does not name is kept, with all its digits."""
    got: list[Change[MagiclineCustomer]] = []
    store.change(2)
    on("magicline.customer", name="keep", start="beginning")(got.append)
    assert "2 handed over" == handing("").run("keep")
    first, second = got
    assert isinstance(first.record, MagiclineCustomer)
    assert ("Ana", "MEMBER", 7) == (first.record.first_name, first.record.status, first.record.id)
    assert {"balance": Decimal("22339.470000000001")} == first.record.model_extra
    assert (1, "updated", "magicline.customer", "1", ("status",)) == (
        first.seq,
        first.op,
        first.kind,
        first.external_id,
        first.changed,
    )
    assert first.id.startswith("chg_")
    assert first.id != second.id


def test_functions_may_be_asynchronous(store: Store, handing: Handing) -> None:
    """They are awaited."""
    got: list[int] = []

    async def keep(change: Change) -> None:
        await asyncio.sleep(0.001)
        got.append(change.seq)

    store.change(3)
    on(name="keep", start="beginning")(keep)
    handing("").run("keep")
    assert [1, 2, 3] == got


def test_what_is_not_wanted_does_not_arrive(store: Store, handing: Handing) -> None:
    """Neither another operation nor another kind."""
    got: list[int] = []
    store.change(1, op="created")
    store.change(1)
    store.change(1, op="created", kind="magicline.contract")
    on("magicline.customer", ops={"created"}, name="keep", start="beginning")(lambda change: got.append(change.seq))
    handing("").run("keep")
    assert [1] == got


@pytest.mark.parametrize("returned", [False, 500, "no", {"status": "failed"}, object(), ValueError("not raised")])
def test_what_a_function_returns_does_not_matter(store: Store, handing: Handing, returned: object) -> None:
    """It has taken the change unless it raises."""
    store.change()
    on(name="keep", start="beginning")(lambda _: returned)
    handing("").run("keep")
    assert {"done": 1} == store.states()


@pytest.mark.parametrize("error", [ValueError("no such customer"), SystemExit(3), KeyboardInterrupt()])
def test_a_change_whose_handler_raises_waits_with_the_same_key(
    store: Store, handing: Handing, error: BaseException
) -> None:
    """Others of other records go on; those of the same record stay behind it."""
    keys: list[tuple[str, str]] = []
    broken = [True]

    def keep(change: Change) -> None:
        keys.append((change.external_id, change.id))
        if change.external_id == "1" and broken[0]:
            raise error

    store.change(6, records=3)
    on(name="keep", start="beginning")(keep)
    step = handing(PATIENT)
    step.run("keep")
    assert {"done": 4, "waiting": 1, "pending": 1} == store.states()
    (row,) = store.run("SELECT * FROM handovers WHERE state = 'waiting'")
    assert "handler-raised" == row["error_reason"]
    assert type(error).__name__ in row["error_detail"]
    broken[0] = False
    store.due()
    step.run("keep")
    assert {"done": 6} == store.states()
    tries = [key for record, key in keys if record == "1"]
    assert (3, tries[0]) == (len(tries), tries[1])


def test_a_handler_that_hangs_is_interrupted(store: Store, handing: Handing) -> None:
    """Even one that swallows every Exception; its change waits with the reason."""

    def hang(_: Change) -> None:
        while True:
            with suppress(Exception):
                time.sleep(0.05)

    store.change()
    on(name="keep", start="beginning", timeout_seconds=0.2)(hang)
    handing(PATIENT).run("keep")
    row = store.handover()
    assert ("waiting", "handler-too-slow") == (row["state"], row["error_reason"])


def test_attempts_end(store: Store, handing: Handing) -> None:
    """Then the change is parked with the last reason, and the next of that record goes on."""
    seqs: list[int] = []

    def keep(change: Change) -> None:
        seqs.append(change.seq)
        if change.seq == 1:
            raise ValueError("never")

    store.change(2, records=1)
    on(name="keep", start="beginning")(keep)
    step = handing(f"{PATIENT}max_attempts = 2\n")
    step.run("keep")
    store.due()
    step.run("keep")
    assert [1, 1, 2] == seqs
    (row,) = store.run("SELECT * FROM handovers WHERE state = 'parked'")
    assert ("attempts-used-up", 2) == (row["error_reason"], row["attempts"])
    assert "ValueError: never" in row["error_detail"]


def test_a_function_that_always_raises_is_only_tried_now_and_then(store: Store, handing: Handing) -> None:
    """After five failures in a row one change at a time; success closes the circuit."""
    seqs: list[int] = []
    broken = [True]

    def keep(change: Change) -> None:
        seqs.append(change.seq)
        if broken[0]:
            raise ConnectionError("the application's database is away")

    store.change(40)
    on(name="keep", start="beginning")(keep)
    step = handing(PATIENT)
    step.run("keep")
    assert [1, 2, 3, 4, 5] == seqs
    step.run("keep")
    assert 5 == len(seqs)
    store.run("UPDATE handlers SET open_until = NULL")
    step.run("keep")
    assert 6 == len(seqs)
    broken[0] = False
    store.due()
    step.run("keep")
    assert {"done": 40} == store.states()


def test_a_name_that_a_url_has_as_well_gets_nothing(store: Store, handing: Handing) -> None:
    """Nobody can tell which of the two is meant: the changes wait until one of them has another name."""
    got: list[int] = []
    store.change(3)
    on(name="crm", start="beginning")(lambda change: got.append(change.seq))
    with receiving() as app:
        assert "give one of them another" in handing(handler(app.url)).run("crm")
        assert [] == app.got
    assert [] == got
    handing("").run("crm")
    assert [1, 2, 3] == got


def test_a_record_that_does_not_fit_its_model_is_parked(store: Store, handing: Handing) -> None:
    """The field is named, its value is not; the others go on."""
    store.change(2)
    store.run("""UPDATE records SET data = '{"id": "secret"}' WHERE external_id = '1'""")
    on(name="keep", start="beginning")(lambda _: None)
    handing("").run("keep")
    assert {"done": 1, "parked": 1} == store.states()
    (row,) = store.run("SELECT * FROM handovers WHERE state = 'parked'")
    assert "wrong-shape" == row["error_reason"]
    assert "record.id" in row["error_detail"]
    assert "secret" not in row["error_detail"]


def test_a_wrong_registration_is_refused() -> None:
    """With a sentence that says which part of it."""
    for wrong, named in (
        ({"ops": {"invented"}}, "ops"),
        ({"ops": ()}, "ops"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout_seconds": 61}, "timeout_seconds"),
        ({"start": "tomorrow"}, "start"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "two words"}, "name"),
    ):
        with pytest.raises(ValueError, match=named):
            on("magicline.customer", **wrong)
    with pytest.raises(ValueError, match="yield"):
        on()(_generates)
    on(name="twice")(test_attempts_end)
    with pytest.raises(ValueError, match="twice"):
        on(name="twice")(test_a_wrong_registration_is_refused)


def _generates(change: Change) -> Iterator[Change]:
    yield change
