"""What is sealed comes back whole for its own event, and for nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.data_keys import LEASE_SECONDS
from shared.errors import SettingsError, StoreAway
from shared.sealing import CHUNK_BYTES, BrokenSeal, Keys, Sealer, UnknownKey, generate_key
from support.conditions import until


HEADER = 25
SEALED_CHUNK = CHUNK_BYTES + 16
OLD, NEW = SecretStr(generate_key()), SecretStr(generate_key())
KEYS = Keys.parse([NEW, OLD])
EVENT = UUID(int=1)

edges = st.sampled_from([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7])
sizes = edges | st.integers(0, 3 * CHUNK_BYTES)


def content(size: int) -> bytes:
    """Bytes whose chunks differ."""
    return b"".join(number.to_bytes(4) for number in range(size // 4 + 1))[:size]


def unseal_streamed(sealed: bytes, piece: int, event_id: UUID = EVENT) -> bytes:
    """Unseal from pieces of one size."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sealed), piece):
            yield sealed[start : start + piece]

    async def collect() -> bytes:
        return b"".join([plain async for plain in KEYS.unseal_chunks(pieces(), event_id)])

    return asyncio.run(collect())


@given(sizes, st.uuids())
def test_what_was_sealed_comes_back(size: int, event_id: UUID) -> None:
    """Sealing and unsealing give the same bytes at every length around the chunks' edges."""
    assert content(size) == KEYS.unseal(KEYS.seal(content(size), event_id), event_id)


@settings(max_examples=50, deadline=None)
@given(sizes, st.integers(1, 2 * CHUNK_BYTES), st.integers(1000, 2 * CHUNK_BYTES))
def test_streams_cut_anywhere_give_the_same(size: int, sealing_piece: int, unsealing_piece: int) -> None:
    """A streamed message is the same message however its pieces were cut on either side."""
    sealer = Sealer(KEYS, EVENT)
    plain = content(size)
    # At most some hundreds of pieces, however small they were drawn.
    step = max(sealing_piece, size // 300, 1)
    sealed = b"".join(sealer.update(plain[start : start + step]) for start in range(0, size, step)) + sealer.finish()
    assert plain == KEYS.unseal(sealed, EVENT)
    assert plain == unseal_streamed(sealed, unsealing_piece)


@given(st.integers(0, CHUNK_BYTES + 100), st.data())
def test_any_altered_bit_is_noticed(size: int, data: st.DataObject) -> None:
    """No bit of a sealed message, its header included, can be changed unnoticed."""
    sealed = bytearray(KEYS.seal(content(size), EVENT))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BrokenSeal):
        KEYS.unseal(bytes(sealed), EVENT)


@given(sizes, st.data())
def test_any_cut_is_noticed(size: int, data: st.DataObject) -> None:
    """A message that ends early, also exactly at a chunk's edge, is refused in one piece and streamed."""
    sealed = KEYS.seal(content(size), EVENT)
    chunk_edges = st.sampled_from(range(0, len(sealed), SEALED_CHUNK)).map(lambda at: at and at + HEADER)
    end = data.draw((chunk_edges | st.integers(0, len(sealed) - 1)).filter(lambda at: at < len(sealed)))
    with pytest.raises(BrokenSeal):
        KEYS.unseal(sealed[:end], EVENT)
    with pytest.raises(BrokenSeal):
        unseal_streamed(sealed[:end], 100_000)


def test_reordered_chunks_are_noticed() -> None:
    """Two full chunks that changed places are refused."""
    sealed = KEYS.seal(content(3 * CHUNK_BYTES), EVENT)
    first, second, third = (HEADER + number * SEALED_CHUNK for number in range(3))
    swapped = sealed[:first] + sealed[second:third] + sealed[first:second] + sealed[third:]
    with pytest.raises(BrokenSeal):
        KEYS.unseal(swapped, EVENT)


def test_appended_chunks_are_noticed() -> None:
    """Something behind the last chunk is refused."""
    sealed = KEYS.seal(content(CHUNK_BYTES), EVENT)
    with pytest.raises(BrokenSeal):
        KEYS.unseal(sealed + sealed[HEADER:], EVENT)


@given(st.uuids().filter(lambda other: other != EVENT))
def test_another_event_cannot_read_it(other: UUID) -> None:
    """A sealed body that was moved to another event's row is refused."""
    with pytest.raises(BrokenSeal):
        KEYS.unseal(KEYS.seal(b"body", EVENT), other)


def test_older_keys_still_unseal() -> None:
    """After a rotation the newest key seals, and what an older one sealed can still be read."""
    old = Keys.parse([OLD])
    assert b"body" == KEYS.unseal(old.seal(b"body", EVENT), EVENT)
    with pytest.raises(UnknownKey, match="PENSTOCK_ENCRYPTION_KEYS"):
        old.unseal(KEYS.seal(b"body", EVENT), EVENT)


def test_the_same_body_never_looks_the_same() -> None:
    """Two sealings of one body share no ciphertext, so a reader of the store learns nothing from repeats."""
    assert KEYS.seal(b"body", EVENT)[HEADER:] != KEYS.seal(b"body", EVENT)[HEADER:]


@pytest.mark.parametrize("key", ["", "short", "!" * 43, "A" * 42, "A" * 47, "A" * 43 + "=AAAA"])
def test_a_malformed_key_is_named(key: str) -> None:
    """A key that is not 32 bytes in base64url is refused with the name of the setting, without showing it."""
    with pytest.raises(SettingsError, match=r"PENSTOCK_ENCRYPTION_KEYS: key number 2 ") as refused:
        Keys.parse([NEW, SecretStr(key)])
    assert not key or key not in str(refused.value)


def test_no_key_is_refused() -> None:
    """Without a key nothing starts: bodies are never kept in the clear."""
    with pytest.raises(SettingsError, match="PENSTOCK_ENCRYPTION_KEYS"):
        Keys.parse([])


def test_keys_are_not_shown() -> None:
    """A key does not appear where its holder is printed."""
    assert "newest" not in repr(KEYS)
    assert repr(next(iter(KEYS.by_id.values()))) not in repr(KEYS)


def _granted(key: bytes, asked_at: float | None = None) -> Keys:
    keys = Keys.parse([SecretStr(generate_key())])
    keys.data.add(("imin", "main"), key[:8], key)
    keys.data.seen([key[:8]], [key[:8]], time.monotonic() if asked_at is None else asked_at)
    keys.data.grant(("imin", "main"), key[:8], 10)
    return keys


def test_a_message_whose_key_was_retired_meanwhile_is_not_finished() -> None:
    """Its key is about to be destroyed: what nobody could open later is not acknowledged. With its key in use it is."""
    keys = _granted(b"k" * 32)
    fine, late = Sealer(keys, EVENT, ("imin", "main")), Sealer(keys, EVENT, ("imin", "main"))
    sealed = fine.update(b"x") + fine.finish()
    assert b"x" == keys.unseal(sealed, EVENT)

    late.update(b"x")
    keys.data.seen([b"k" * 8], [], time.monotonic())
    with pytest.raises(StoreAway, match="was retired"):
        late.finish()


def test_a_message_whose_lease_is_over_is_not_finished() -> None:
    """Postgres was not seen for so long that the key may be destroyed; one under the master key needs no lease."""
    keys = _granted(b"k" * 32, time.monotonic() - LEASE_SECONDS + 0.2)
    late = Sealer(keys, EVENT, ("imin", "main"))
    until(lambda: not keys.data.left(("imin", "main")))
    with pytest.raises(StoreAway):
        late.finish()
    by_master = Sealer(keys, EVENT, ("imin", "main"))
    assert b"" == keys.unseal(by_master.finish(), EVENT)
