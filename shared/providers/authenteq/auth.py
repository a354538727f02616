"""Which client a delivery is for, and whether its signature fits the raw body."""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from shared.errors import Cause, NotAuthentic
from shared.providers.authenteq.settings import SIGNATURE_FORMS, AuthenteqAccount, SignatureForm
from shared.providers.interface import Admission, Inbound, Unverified
from shared.providers.keys import KeyRing


_HEX_SHA256 = re.compile(rb"[0-9a-fA-F]{64}")


class AuthenteqInbound(Inbound):
    """The client id finds the account; the signature over the raw body proves the sender (seed 004)."""

    success_status = 200  # exactly: any other status makes Authenteq retry for a week (seed 004)
    secret_headers = frozenset({b"x-client-id", b"x-signature", b"authorization", b"cookie"})
    max_body_bytes = 64 * 1024 * 1024
    body_seconds = 60.0

    def __init__(self, accounts: Sequence[AuthenteqAccount]) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._clients = KeyRing((account.name, account.client_id) for account in accounts)
        self.matched_forms: dict[str, SignatureForm] = {}
        """account name -> the form that its last genuine delivery was signed in, so that one can be pinned."""
        self._used: set[tuple[str, bytes]] = set()

    def authenticate(self, request: Unverified) -> Admission:
        """The account of the client id, provided that the signature fits. Raises NotAuthentic."""
        client_id = request.one(b"x-client-id")
        try:
            account = self._accounts[self._clients.account(client_id)]
        except NotAuthentic:
            raise NotAuthentic("the client id is not one of a configured account", "wrong-client-id") from None
        signature = request.one(b"x-signature")
        if not _HEX_SHA256.fullmatch(signature):
            raise NotAuthentic("the header x-signature must be 64 hexadecimal digits", "malformed-signature")
        forms = SIGNATURE_FORMS if account.signature == "auto" else (account.signature,)
        secrets = [secret.get_secret_value().encode() for secret in account.client_secrets]

        def remember(secret: bytes, form: SignatureForm | None) -> None:
            self._used.add((account.name, secret))
            if form:
                self.matched_forms[account.name] = form

        return Admission(account.name, SignatureCheck(bytes.fromhex(signature.decode()), secrets, forms, remember))

    def take_used_keys(self) -> Collection[tuple[str, bytes]]:
        """The client secrets under which signatures fitted."""
        used, self._used = self._used, set()
        return used

    def cause(self, request: Unverified, body: bytes) -> Cause | None:
        """Looks also whether a form of signature fits that the account's settings do not allow."""
        cause = super().cause(request, body)
        if cause != "altered-body":
            return cause
        any_form = AuthenteqInbound(
            [account.model_copy(update={"signature": "auto"}) for account in self._accounts.values()]
        )
        return cause if Inbound.cause(any_form, request, body) else "other-signature-form"

    def learned(self) -> Mapping[str, str]:
        """The form to pin, for accounts with ``signature = "auto"``."""
        return {
            name: f'signature = "{form}" matched; pin it in the settings'
            for name, form in self.matched_forms.items()
            if self._accounts[name].signature == "auto"
        }


class _Digest(Protocol):
    def update(self, chunk: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class SignatureCheck:
    """Digests of a streamed body, one for each form and secret, compared all and in constant time at the end."""

    def __init__(
        self,
        signature: bytes,
        secrets: Sequence[bytes],
        forms: Sequence[SignatureForm],
        remember: Callable[[bytes, SignatureForm | None], None],
    ) -> None:
        self._signature = signature
        self._remember = remember
        self._digests: list[tuple[SignatureForm, bytes, bytes, _Digest]] = [
            (form, secret, *_begun(form, secret)) for form in forms for secret in secrets
        ]

    def update(self, chunk: bytes) -> None:
        """Take the next raw bytes of the body."""
        for *_, digest in self._digests:
            digest.update(chunk)

    def finish(self) -> None:
        """Raise NotAuthentic unless one form under one secret gives the signature."""
        matched: dict[SignatureForm, bytes] = {}
        for form, secret, suffix, digest in self._digests:
            digest.update(suffix)
            if hmac.compare_digest(digest.digest(), self._signature):
                matched[form] = secret
        if not matched:
            raise NotAuthentic("the signature does not fit the body", "altered-body")
        (form, secret), *others = matched.items()
        # an empty body fits both plain forms and tells them apart no more
        self._remember(secret, None if others else form)


def _begun(form: SignatureForm, secret: bytes) -> tuple[bytes, _Digest]:
    """What is hashed after the body, and the digest as it is before it."""
    match form:
        case "hmac-sha256":
            return b"", hmac.new(secret, digestmod=hashlib.sha256)
        case "sha256-body-secret":
            return secret, hashlib.sha256()
        case "sha256-secret-body":
            return b"", hashlib.sha256(secret)
