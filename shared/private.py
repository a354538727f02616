"""Private members of records and of calls: sealed before they go to Postgres, opened only through the key.

A record's ``data`` keeps a digest in place of each private member, keyed and bound to its record and name: Postgres can
still tell which members changed, and nobody can tell from what to what. ``sealed`` holds the members themselves.
"""

import base64
import hashlib
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from shared.providers.interface import Call, Privacy, Record
from shared.sealing import BrokenSeal, Keys, context_of


MARK: Final = "sealed:"
_DIGEST_BYTES: Final = 16

_exact = msgspec.json.Decoder(float_hook=Decimal)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def seal_record(keys: Keys, provider: str, account: str, privacy: Privacy, record: Record) -> Record:
    """The record with its private members sealed; one that has none stays as it is.

    The caller has seen to it that the account has a data key (``WorkerProcess.may_seal``).
    """
    rule = privacy.records.get(record.kind)
    if rule is None or record.data is None or record.sealed is not None:
        return record
    members = _members.decode(record.data)
    private = {name: value for name, value in members.items() if rule.private(name)}
    if not private:
        return record
    of_record = (provider, account, record.kind, record.external_id)
    digest_key = _digest_key(keys, (provider, account))
    shown = {
        name: _digest(digest_key, (*of_record, name), value) if name in private else value
        for name, value in members.items()
    }
    sealed = keys.seal(msgspec.json.encode(private), context_of("record", *of_record), (provider, account))
    return record._replace(data=msgspec.json.encode(shown).decode(), sealed=sealed)


def open_record(
    keys: Keys, provider: str, account: str, kind: str, external_id: str, data: str, sealed: bytes | None
) -> str:
    """A record's data as JSON text, whole. Raises BrokenSeal, UnknownKey."""
    if sealed is None:
        return data
    plain = _members.decode(keys.unseal(sealed, context_of("record", provider, account, kind, external_id)))
    members = _members.decode(data)
    return msgspec.json.encode({**members, **plain}).decode()


def seal_call(keys: Keys, provider: str, account: str, privacy: Privacy, call: Call) -> Call:
    """The call with the private members of its context sealed, as it waits in Postgres."""
    if not privacy.context.intersection(call.context):
        return call
    context = {
        name: MARK
        + base64.b64encode(
            keys.seal(msgspec.json.encode(value), _of_call(provider, account, call, name), (provider, account))
        ).decode()
        if name in privacy.context
        else value
        for name, value in call.context.items()
    }
    return replace(call, context=context)


def open_call(keys: Keys, provider: str, account: str, privacy: Privacy, call: Call) -> Call:
    """The call as it was sealed. Raises BrokenSeal, UnknownKey."""
    if not privacy.context.intersection(call.context):
        return call
    context: dict[str, Any] = dict(call.context)
    for name in privacy.context.intersection(context):
        value = context[name]
        if not isinstance(value, str) or not value.startswith(MARK):
            raise BrokenSeal(f"the member {name} of a call is not sealed")
        sealed = base64.b64decode(value.removeprefix(MARK))
        context[name] = msgspec.json.decode(keys.unseal(sealed, _of_call(provider, account, call, name)))
    return replace(call, context=context)


def needs_key(privacy: Privacy, record: Record) -> bool:
    """Whether ``seal_record`` would seal something of it."""
    rule = privacy.records.get(record.kind)
    return rule is not None and record.data is not None


def _of_call(provider: str, account: str, call: Call, name: str) -> UUID:
    return context_of("call", provider, account, call.path, call.pick, name)


def _digest_key(keys: Keys, account: tuple[str, str]) -> bytes:
    first = keys.data.first(account)
    if first is None:
        raise BrokenSeal(f"the account {account[1]} has no data key")
    return hashlib.blake2b(first, person=b"penstock digest", digest_size=32).digest()


def _digest(key: bytes, names: tuple[str, ...], value: msgspec.Raw) -> str:
    content = repr(_canonical(_exact.decode(value))).encode()
    name = "\x1f".join(names).encode()
    digest = hashlib.blake2b(name + b"\0" + content, key=key, digest_size=_DIGEST_BYTES).digest()
    return MARK + base64.b64encode(digest).decode()


def _canonical(value: Any) -> Any:
    """Alike for what ``jsonb`` takes to be alike: objects in any order, 1.0 and 1.00."""
    match value:
        case dict():
            return sorted((name, _canonical(member)) for name, member in value.items())
        case list():
            return ("list", [_canonical(item) for item in value])
        case bool() | None | str():
            return value
        case _:
            # not Decimal.normalize: it rounds to 28 digits
            sign, digits, exponent = Decimal(value).as_tuple()
            text = "".join(map(str, digits)).lstrip("0")
            kept = text.rstrip("0")
            return ("number", kept and sign, kept, kept and int(exponent) + len(text) - len(kept))
