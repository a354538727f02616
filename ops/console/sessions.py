"""Sessions: who signed in, and the word that a form has to repeat, in a sealed cookie."""

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr


COOKIE: Final = "penstock-console"
SESSION_SECONDS: Final = 12 * 3600
_KEY_BYTES: Final = 32


class Session(msgspec.Struct, frozen=True):
    """``user`` is None until somebody signed in; ``stamp`` is a digest of the password hash with which that was."""

    csrf: str
    user: str | None = None
    stamp: str = ""


class Sessions:
    """Seals and opens cookies. The key follows from the newest encryption key, so every console of it knows them.

    Without an encryption key the sessions end with the process.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        secret = keys[0].get_secret_value().encode() if keys else os.urandom(_KEY_BYTES)
        derived = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=b"penstock console sessions")
        self._seal = Fernet(base64.urlsafe_b64encode(derived.derive(secret)))

    def open(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None for one that is not ours, was altered or is too old."""
        try:
            plain = self._seal.decrypt((cookie or "").encode(), ttl=SESSION_SECONDS)
            return msgspec.json.decode(plain, type=Session)
        except (InvalidToken, msgspec.DecodeError):
            return None

    def seal(self, session: Session) -> str:
        """The session as a cookie's value."""
        return self._seal.encrypt(msgspec.json.encode(session)).decode()


def begun(user: str | None = None, stamp: str = "") -> Session:
    """A new session, with a word of its own."""
    return Session(secrets.token_urlsafe(16), user, stamp)


def stamp_of(password_hash: str) -> str:
    """What ties a session to a password: a new password ends the sessions of the old one."""
    return hashlib.sha256(password_hash.encode()).hexdigest()[:16]


def set_cookie(value: str, *, secure: bool) -> str:
    """The header's value. ``SameSite=Strict``: no other site's page sends it, not even by a link."""
    return (
        f"{COOKIE}={value}; Max-Age={SESSION_SECONDS}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
    )
