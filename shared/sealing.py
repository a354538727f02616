"""Encryption at rest: bodies and blobs are sealed with AES-256-GCM in chunks before they leave this process.

A sealed message is a header and one or more chunks:

    header   version (1 byte) | key id (8) | salt (16)
    chunk    up to 64 KiB of ciphertext | tag (16)

Version 2 is sealed with a data key of its account, which lies in Postgres, wrapped by a master key; version 1 with a
master key itself: data keys, and what comes in while no data key can be had. The key of each message comes by
HKDF-SHA256 from that key, the salt and the event's id. A chunk's nonce is its
index and a flag that marks the last one (the STREAM construction: https://eprint.iacr.org/2015/189), so chunks cannot
be left out, put in another order or moved to another event, and a message cannot be cut at a chunk's edge.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from shared.data_keys import DataKeys
from shared.errors import PenstockError, SettingsError, StoreAway


CHUNK_BYTES: Final = 64 * 1024
VERSION: Final = 1
"""Sealed with a master key."""
DATA_VERSION: Final = 2
"""Sealed with a data key."""

_KEY_BYTES = 32
_KEY_ID_BYTES = 8
PREFIX_BYTES: Final = 1 + _KEY_ID_BYTES
"""The beginning of a sealed message that says which key it takes."""
_SALT_BYTES = 16
_HEADER_BYTES = 1 + _KEY_ID_BYTES + _SALT_BYTES
_TAG_BYTES = 16
_SEALED_CHUNK_BYTES = CHUNK_BYTES + _TAG_BYTES


class BrokenSeal(PenstockError):
    """What is stored is not what was sealed for this event: altered, cut, reordered or another event's."""


class UnknownKey(BrokenSeal):
    """It was sealed with a key that this process does not have: removed, destroyed by erasure, or not loaded yet."""


class Sealed(NamedTuple):
    """What the header of a sealed message says: which key it takes. ``by_master``: a master key, else a data key."""

    by_master: bool
    key_id: bytes

    @classmethod
    def of(cls, message: bytes | memoryview) -> "Sealed | None":
        """None for what is too short, or of another version."""
        header = bytes(message[:PREFIX_BYTES])
        if len(header) < PREFIX_BYTES or header[0] not in {VERSION, DATA_VERSION}:
            return None
        return cls(header[0] == VERSION, header[1:])


@dataclass(frozen=True, slots=True)
class Keys:
    """The master keys (the newest seals, every one unseals), and the data keys that were unwrapped with them."""

    newest: bytes = field(repr=False)
    """The id of the key that seals."""
    by_id: Mapping[bytes, bytes] = field(repr=False)
    data: DataKeys = field(default_factory=DataKeys, repr=False, compare=False)

    @classmethod
    def parse(cls, keys: Sequence[SecretStr]) -> "Keys":
        """From the setting: each 32 bytes in base64url, newest first. Raises SettingsError."""
        if not keys:
            raise SettingsError(
                "PENSTOCK_ENCRYPTION_KEYS: no key is set; `penstock keys generate` prints one to put there"
            )
        parsed = [_parse_key(key.get_secret_value(), number) for number, key in enumerate(keys, 1)]
        return cls(newest=key_id_of(parsed[0]), by_id={key_id_of(key): key for key in parsed})

    def seal(self, data: bytes | memoryview, event_id: UUID, account: tuple[str, str] | None = None) -> bytes:
        """Seal a whole message, with a data key of the account (provider, name) if one may be used now."""
        if len(data) <= CHUNK_BYTES:
            header, cipher = _begun(self, event_id, account)
            return header + cipher.encrypt(_ONLY_NONCE, data, header)
        sealer = Sealer(self, event_id, account)
        return sealer.update(data) + sealer.finish()

    def unseal(self, sealed: bytes | memoryview, event_id: UUID) -> bytes:
        """The message that was sealed for this event. Raises BrokenSeal or UnknownKey."""
        sealed = memoryview(sealed)
        opener = _Opener(self, sealed[:_HEADER_BYTES], event_id)
        starts = range(_HEADER_BYTES, max(len(sealed), _HEADER_BYTES + 1), _SEALED_CHUNK_BYTES)
        return b"".join(
            opener.open(sealed[start : start + _SEALED_CHUNK_BYTES], last=start == starts[-1]) for start in starts
        )

    async def unseal_chunks(self, sealed: AsyncIterator[bytes], event_id: UUID) -> AsyncIterator[bytes]:
        """Unseal a stream of pieces of any size. Raises BrokenSeal or UnknownKey, after which what came is void."""
        held = bytearray()
        opener: _Opener | None = None
        async for piece in sealed:
            held += piece
            if opener is None and len(held) >= _HEADER_BYTES:
                opener = _Opener(self, bytes(held[:_HEADER_BYTES]), event_id)
                del held[:_HEADER_BYTES]
            # A full chunk is known not to be the last one only when something follows it.
            while opener is not None and len(held) > _SEALED_CHUNK_BYTES:
                yield opener.open(bytes(held[:_SEALED_CHUNK_BYTES]), last=False)
                del held[:_SEALED_CHUNK_BYTES]
        if opener is None:
            raise BrokenSeal("the sealed message is cut before its header ends")
        yield opener.open(bytes(held), last=True)


class Sealer:
    """Seals a message of unknown length while it streams in."""

    def __init__(self, keys: Keys, event_id: UUID, account: tuple[str, str] | None = None) -> None:
        self._header, self._cipher = _begun(keys, event_id, account)
        self._keys = keys
        self._account = account
        self._unsent = self._header
        self._held = bytearray()
        self._index = 0

    def update(self, data: bytes | memoryview) -> bytes:
        """Take the next plain bytes; returns sealed bytes, as many as are complete."""
        view = memoryview(data)
        sealed = [self._unsent]
        self._unsent = b""
        # The last chunk stays here until the end is known: only then does it get its flag.
        while len(self._held) + len(view) > CHUNK_BYTES:
            missing = CHUNK_BYTES - len(self._held)
            self._held += view[:missing]
            sealed.append(self._seal(self._held, last=False))
            self._held.clear()
            view = view[missing:]
        self._held += view
        return b"".join(sealed)

    def finish(self) -> bytes:
        """The rest of the sealed message, its last chunk among it. Raises StoreAway.

        A message may come in for a minute: if its key was retired meanwhile, an erasure is about to destroy that.
        """
        held = Sealed.of(self._header)
        if held and not held.by_master and self._account and not self._keys.data.is_in_use(self._account, held.key_id):
            raise StoreAway("the account's data key was retired, or Postgres not seen, while the body came in")
        return self._unsent + self._seal(self._held, last=True)

    def _seal(self, chunk: bytearray, *, last: bool) -> bytes:
        sealed = self._cipher.encrypt(_nonce(self._index, last=last), chunk, self._header)
        self._index += 1
        return sealed


class _Opener:
    """Unseals the chunks of one message in order."""

    def __init__(self, keys: Keys, header: bytes | memoryview, event_id: UUID) -> None:
        self._header = bytes(header)
        if len(self._header) < _HEADER_BYTES:
            raise BrokenSeal("the sealed message is cut before its header ends")
        sealed = Sealed.of(self._header)
        if sealed is None:
            raise BrokenSeal(f"the sealed message has format version {self._header[0]}; known are 1 and 2")
        key = keys.by_id.get(sealed.key_id) if sealed.by_master else keys.data.secret(sealed.key_id)
        if key is None and sealed.by_master:
            raise UnknownKey(
                f"sealed with the key {sealed.key_id.hex()}, which is not in PENSTOCK_ENCRYPTION_KEYS; put it back "
                "behind the newest one"
            )
        if key is None:
            raise UnknownKey(
                f"sealed with the data key {sealed.key_id.hex()}, which is not there: it was destroyed by erasure, or "
                "wrapped by a key that is not in PENSTOCK_ENCRYPTION_KEYS"
            )
        self._cipher = _message_cipher(key, self._header[1 + _KEY_ID_BYTES :], event_id)
        self._index = 0

    def open(self, chunk: bytes | memoryview, *, last: bool) -> bytes:
        try:
            plain = self._cipher.decrypt(_nonce(self._index, last=last), chunk, self._header)
        except (InvalidTag, ValueError):
            raise BrokenSeal(f"chunk {self._index} is not what was sealed for this event") from None
        self._index += 1
        return plain


def generate_key() -> str:
    """A new master key, as PENSTOCK_ENCRYPTION_KEYS takes it."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


def context_of(*names: str) -> UUID:
    """What binds a message that belongs to no event to its place: a digest of the names, in the form of an id."""
    return UUID(bytes=hashlib.blake2b("\x1f".join(names).encode(), digest_size=16).digest())


def key_id_of(key: bytes) -> bytes:
    """The id of a master key: 8 bytes, from which nothing of the key follows."""
    return hashlib.sha256(b"penstock key id" + key).digest()[:_KEY_ID_BYTES]


def _parse_key(text: str, number: int) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"PENSTOCK_ENCRYPTION_KEYS: key number {number} is not {_KEY_BYTES} bytes in base64url; "
            "`penstock keys generate` prints one"
        )
    return key


def _begun(keys: Keys, event_id: UUID, account: tuple[str, str] | None) -> tuple[bytes, AESGCM]:
    """The header of a new message, and its cipher."""
    salt = os.urandom(_SALT_BYTES)
    if account is not None and (granted := keys.data.take(account)) is not None:
        key_id, key = granted
        return bytes((DATA_VERSION,)) + key_id + salt, _message_cipher(key, salt, event_id)
    return bytes((VERSION,)) + keys.newest + salt, _message_cipher(keys.by_id[keys.newest], salt, event_id)


def _message_cipher(key: bytes, salt: bytes, event_id: UUID) -> AESGCM:
    derived = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=b"penstock message" + event_id.bytes)
    return AESGCM(derived.derive(key))


def _nonce(index: int, *, last: bool) -> bytes:
    return index.to_bytes(11) + bytes((last,))


_ONLY_NONCE = _nonce(0, last=True)
