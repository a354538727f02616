"""Numbers that follow from a seed and a name: the same world every time, nothing kept until it is asked for."""

import uuid
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar


T = TypeVar("T")
_MASK = 0xFFFFFFFFFFFFFFFF


def number(*parts: object) -> int:
    """A 64-bit number that depends on all the parts and on nothing else."""
    return int.from_bytes(blake2b(_joined(parts), digest_size=8).digest(), "big")


def hexadecimal(*parts: object, digits: int = 24) -> str:
    """An id of so many hexadecimal digits (at most 128)."""
    return blake2b(_joined(parts), digest_size=(digits + 1) // 2).hexdigest()[:digits]


def identifier(*parts: object) -> str:
    """A version 4 UUID in its usual spelling."""
    return str(uuid.UUID(bytes=blake2b(_joined(parts), digest_size=16).digest(), version=4))


def pick(options: Sequence[T], *parts: object) -> T:
    """One of the options."""
    return options[number(*parts) % len(options)]


def mixed(value: int) -> int:
    """The splitmix64 finaliser: well-spread bits for an index, about ten times faster than a digest."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _joined(parts: tuple[object, ...]) -> bytes:
    return "\x1f".join(str(part) for part in parts).encode()
