"""Passwords as they are kept: Argon2id, with the parameters that RFC 9106 recommends where memory is bounded."""

import functools
import os
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id


# The second recommended option of https://www.rfc-editor.org/rfc/rfc9106#section-4: 64 MiB, three passes, four lanes.
_MEMORY_KIB: Final = 64 * 1024
_PASSES: Final = 3
_LANES: Final = 4
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


def hash_of(password: str) -> str:
    """The password as ``password_hash`` takes it: ``$argon2id$v=19$...``. Takes a tenth of a second and 64 MiB."""
    made = Argon2id(
        salt=os.urandom(_SALT_BYTES), length=_HASH_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB
    )
    return str(made.derive_phc_encoded(password.encode()))


def matches(password: str, kept: str) -> bool:
    """Whether this is the password of a hash; False also for what is no hash."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), kept)
    except (InvalidKey, ValueError):
        return False
    return True


@functools.cache
def nobodys() -> str:
    """Checked when a name is unknown, so that the time of an answer does not tell which names exist."""
    return hash_of(os.urandom(_SALT_BYTES).hex())
