"""The id of a change as handlers see it (``webhook-id``): the same at every attempt and every replay.

It is the change's own number, encrypted as one block under the installation's key: it tells nobody how many changes
there are, and whoever has the key gets from it to the change in one step, without an index. The id of a record that
makes one change ever is the beginning of its mark, so that it outlives the change (``records/once.py``).
"""

import hashlib
import re
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB


PREFIX: Final = "chg_"

MADE_OF: Final = "c.id AS change_id, c.mark, i.key"
"""As SQL, what an id is made of: the query has the change as ``c`` and ``installation i``."""

_FORM: Final = re.compile(PREFIX + r"([0-9a-f]{32})")
_BLOCK_BYTES: Final = 16
LARGEST_NUMBER: Final = 2**63 - 1
_PURPOSE: Final = b"penstock ids of changes"
"""The installation's key makes marks as well: each use has a key of its own."""


def message_id(change_id: int, mark: bytes | None, key: bytes) -> str:
    """The id of a change with this number, and this mark where its record makes one change ever."""
    block = mark[:_BLOCK_BYTES] if mark else _cipher(key).encryptor().update(change_id.to_bytes(_BLOCK_BYTES))
    return PREFIX + block.hex()


def block_of(text: str) -> bytes | None:
    """The sixteen bytes of an id; None where the text is none."""
    found = _FORM.fullmatch(text)
    return bytes.fromhex(found[1]) if found else None


def number_in(block: bytes, key: bytes) -> int | None:
    """The number of the change that an id was made for; None where this key made no such id of a number."""
    number = int.from_bytes(_cipher(key).decryptor().update(block))
    return number if number <= LARGEST_NUMBER else None


@lru_cache(maxsize=4)
def _cipher(key: bytes) -> Cipher[ECB]:
    # One block holds one number and nothing is ever longer: of the modes none but this has no need of a nonce.
    return Cipher(AES(hashlib.sha256(_PURPOSE + key).digest()), ECB())  # noqa: S305 - as said
