"""Changes found by the ids that receivers have: in a step, whatever is stored, and nothing else by chance."""

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.store.handovers import handing_over
from shared.store.handovers.finding import ChangeMissing, find_change, places_of
from shared.store.handovers.message_ids import block_of, message_id, number_in
from shared.store.records.numbering import number_changes
from shared.store.records.recording import apply
from test_handing_over import EVERYTHING, change, process
from test_once import shown


pytestmark = pytest.mark.anyio

KEYS = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(1, 2**63 - 1)


@given(key=KEYS, other=KEYS, number=NUMBERS, another=NUMBERS)
def test_the_number_comes_out_of_the_id_under_its_own_key_alone(
    key: bytes, other: bytes, number: int, another: int
) -> None:
    """Two changes never share an id; what another key made is no number."""
    text = message_id(number, None, key)
    block = block_of(text)
    assert block is not None
    assert number == number_in(block, key)
    assert (number == another) == (text == message_id(another, None, key))
    assert key == other or number_in(block, other) is None


@pytest.mark.parametrize("text", ["", "chg_", "chg_" + "g" * 32, "CHG_" + "0" * 32, "chg_" + "0" * 33, "0" * 32])
def test_what_has_not_the_form_is_no_id(text: str) -> None:
    """Cut off, too long, of other letters."""
    assert block_of(text) is None


async def test_every_change_is_found_by_the_id_that_its_handler_got(db: asyncpg.Connection) -> None:
    """Also one of a record that makes one change ever, whose id is the beginning of its mark."""
    await change(db, "a", "b")
    await apply(db, [shown("1")])
    await number_changes(db)
    claimed = await handing_over.claim(db, EVERYTHING, await process(db), 10)
    got = [(one.change.id, one.change.seq) for one in claimed if one.change]
    assert 3 == len(got)
    assert [1, 2, 3] == await places_of(db, [text for text, _ in got])
    for text, seq in got:
        assert await find_change(db, text) == await find_change(db, str(seq))


async def test_what_is_not_kept_any_more_is_told_from_what_never_was(db: asyncpg.Connection) -> None:
    """By the number within the id, and by the mark, which outlives its change."""
    await change(db, "a")
    await apply(db, [shown("1")])
    await number_changes(db)
    claimed = await handing_over.claim(db, EVERYTHING, await process(db), 10)
    await db.execute("DELETE FROM changes")
    for one in claimed:
        assert one.change
        with pytest.raises(ChangeMissing, match="is not kept any more"):
            await find_change(db, one.change.id)
    for text in ("chg_" + "0" * 32, "chg_" + "f" * 32):
        with pytest.raises(ChangeMissing, match="no change of this installation"):
            await find_change(db, text)
    for seq in ("7", str(2**70)):
        with pytest.raises(ChangeMissing, match="there is no change"):
            await find_change(db, seq)


async def test_a_change_that_has_no_place_yet_is_said_to_get_one(db: asyncpg.Connection) -> None:
    """The relay numbers it in a moment."""
    await apply(db, [shown("1")])
    row = await db.fetchrow("SELECT c.id, c.mark, i.key FROM changes c, installation i")
    assert row is not None
    with pytest.raises(ChangeMissing, match="ask again in a moment"):
        await find_change(db, message_id(*row))
