"""Private members: sealed in records and calls, compared by digests, opened as they were."""

from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.private import open_call, open_record, seal_call, seal_record
from shared.providers.interface import Call, Members, Privacy, Record
from shared.sealing import BrokenSeal, Keys, generate_key


ACCOUNT = ("paybook", "main")
EVENT = UUID(int=1)
PRIVACY = Privacy(records={"thing": Members(frozenset({"secret", "number"}))}, context=frozenset({"data"}))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@pytest.fixture(scope="module")
def keys() -> Keys:
    """Keys with a data key that may be used."""
    return with_data_key()


def with_data_key(seen_at: float = float("inf")) -> Keys:
    """Keys with a data key that may be used."""
    made = Keys.parse([SecretStr(generate_key())])
    made.data.add(ACCOUNT, b"data-key", b"k" * 32)
    made.data.seen([b"data-key"], [b"data-key"], seen_at)
    made.data.grant(ACCOUNT, b"data-key", 2**31)
    return made


def sealed(keys: Keys, text: str, external_id: str = "1") -> Record:
    """A record as it is stored."""
    return seal_record(keys, *ACCOUNT, PRIVACY, Record("thing", external_id, text))


@given(secret=JSON, plain=JSON)
def test_what_was_sealed_is_opened_as_it_was(keys: Keys, secret: object, plain: object) -> None:
    """Whatever the members are: the stored text does not hold the private one, and opening gives both."""
    record = sealed(keys, msgspec.json.encode({"secret": secret, "plain": plain}).decode())

    assert record.data is not None
    assert {"secret", "plain"} == set(msgspec.json.decode(record.data))
    assert plain == msgspec.json.decode(record.data)["plain"]
    opened = open_record(keys, *ACCOUNT, "thing", "1", record.data, record.sealed)
    assert {"secret": secret, "plain": plain} == msgspec.json.decode(opened)


def test_the_digits_of_a_private_number_are_kept(keys: Keys) -> None:
    """Sealing does not read numbers."""
    record = sealed(keys, '{"number":100.10000000000000000000000000001}')
    assert record.data is not None
    opened = open_record(keys, *ACCOUNT, "thing", "1", record.data, record.sealed)
    assert (
        Decimal("100.10000000000000000000000000001")
        == msgspec.json.Decoder(float_hook=Decimal).decode(opened)["number"]
    )


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ('{"secret":{"a":1,"b":2}}', '{"secret": {"b": 2.0, "a": 1}}', True),
        ('{"secret":1.50}', '{"secret":15e-1}', True),
        ('{"secret":1}', '{"secret":true}', False),
        ('{"secret":1}', '{"secret":"1"}', False),
        ('{"secret":[1,2]}', '{"secret":[2,1]}', False),
        ('{"secret":1.00000000000000000000000000000001}', '{"secret":1.00000000000000000000000000000002}', False),
        ('{"secret":0}', '{"secret":-0.0}', True),
        ('{"secret":[]}', '{"secret":{}}', False),
    ],
)
def test_a_digest_changes_when_the_value_does(keys: Keys, one: str, other: str, alike: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The same value in another order or spelling is no change; any other value is."""
    assert alike == (sealed(keys, one).data == sealed(keys, other).data)


def test_equal_values_of_two_records_do_not_look_alike(keys: Keys) -> None:
    """Whoever reads the tables cannot tell who shares a bank account."""
    assert sealed(keys, '{"secret":"x"}', "1").data != sealed(keys, '{"secret":"x"}', "2").data


def test_a_sealed_record_cannot_be_moved_to_another(keys: Keys) -> None:
    """What was sealed for one record opens for no other."""
    record = sealed(keys, '{"secret":"x"}')
    with pytest.raises(BrokenSeal):
        open_record(keys, *ACCOUNT, "thing", "2", record.data or "", record.sealed)


def test_a_record_without_private_members_stays_as_it_is(keys: Keys) -> None:
    """Nothing is sealed where there is nothing to seal, and tombstones pass."""
    for record in (
        Record("thing", "1", '{"plain":1}'),
        Record("other", "1", '{"secret":1}'),
        Record("thing", "1", None),
    ):
        assert record is seal_record(keys, *ACCOUNT, PRIVACY, record)


def test_the_context_of_a_call_is_sealed_and_opened(keys: Keys) -> None:
    """What waits in Postgres beside a call does not show the private member; another call cannot open it."""
    call = Call("/v1/verifications/1", "confirm", {"identifier": "1", "data": '{"surname":"Marked"}'})
    waiting = seal_call(keys, *ACCOUNT, PRIVACY, call)

    assert "Marked" not in str(waiting.context)
    assert call == open_call(keys, *ACCOUNT, PRIVACY, waiting)
    with pytest.raises(BrokenSeal):
        open_call(keys, *ACCOUNT, PRIVACY, Call("/v1/verifications/2", "confirm", waiting.context))


def test_without_a_lease_the_master_key_seals() -> None:
    """A data key that may have been destroyed meanwhile is not used; the master key is, and opens it again."""
    keys = with_data_key(seen_at=float("-inf"))
    assert 1 == keys.seal(b"body", EVENT, ACCOUNT)[0]
    assert b"body" == keys.unseal(keys.seal(b"body", EVENT, ACCOUNT), EVENT)


def test_what_a_destroyed_data_key_sealed_is_gone() -> None:
    """The key was in no other place: nobody opens it, with every master key there is."""
    keys = with_data_key()
    message = keys.seal(b"body", EVENT, ACCOUNT)
    assert 2 == message[0]
    keys.data.seen([], [], float("inf"))
    with pytest.raises(BrokenSeal, match="destroyed by erasure"):
        keys.unseal(message, EVENT)
