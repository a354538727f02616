"""Whatever a change holds, its message is one that the published verifier accepts and a CloudEvents parser reads."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from penstock import Change
from penstock.records import KINDS
from shared.handlers.change import OutgoingChange
from shared.handlers.envelope import CONTENT_TYPE, wrap
from shared.handlers.signing import PREFIX, sign
from workers.hand_over.invoking import typed


# what Postgres keeps as text: no NUL, and nothing that is not UTF-8
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False).map(str) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.none() | st.dictionaries(TEXT, VALUES, max_size=4).map(lambda found: json.dumps(found, ensure_ascii=False))
CHANGES = st.builds(
    OutgoingChange,
    id=st.from_regex(r"chg_[0-9a-f]{32}", fullmatch=True),
    seq=st.integers(1, 2**63 - 1),
    op=st.sampled_from(["created", "updated", "deleted"]),
    provider=st.sampled_from(["imin", "magicline", "paybook", "authenteq"]),
    account=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    kind=st.sampled_from(sorted(KINDS)),
    external_id=TEXT.filter(bool),
    changed=st.lists(TEXT, max_size=3),
    event_id=st.none() | st.uuids(),
    at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - see timezones
    record=RECORDS,
)
SECRETS = st.binary(min_size=24, max_size=64).map(lambda key: SecretStr(PREFIX + base64.b64encode(key).decode()))


def _exact(text: bytes) -> Any:
    return json.JSONDecoder(parse_float=Decimal).decode(text.decode())


@given(change=CHANGES, secrets=st.lists(SECRETS, min_size=1, max_size=3, unique_by=SecretStr.get_secret_value))
def test_every_message_is_verified_and_read(change: OutgoingChange, secrets: list[SecretStr]) -> None:
    """By each secret of a rotation; the data is the change, its numbers to the last digit."""
    body = wrap(change)
    headers = {**sign(change.id, datetime.now(UTC), body, secrets), "content-type": CONTENT_TYPE}
    for secret in secrets:
        Webhook(secret.get_secret_value()).verify(body, headers)
    event = from_http_event(HTTPMessage(headers, body))
    assert ("1.0", change.id) == (event.get_specversion(), event.get_id())
    assert f"{change.kind}.{change.op}" == event.get_type()
    assert change.at == event.get_time()
    data = _exact(body)["data"]
    assert (change.external_id, list(change.changed)) == (data["external_id"], data["changed"])
    assert data["record"] == (None if change.record is None else _exact(change.record.encode()))


@given(change=CHANGES, secret=SECRETS, at=st.integers(0, 2**20), bit=st.integers(0, 7))
def test_a_message_that_was_changed_on_its_way_is_refused(
    change: OutgoingChange, secret: SecretStr, at: int, bit: int
) -> None:
    """Whichever bit of it."""
    body = bytearray(wrap(change))
    headers = sign(change.id, datetime.now(UTC), bytes(body), [secret])
    body[at % len(body)] ^= 1 << bit
    with pytest.raises((WebhookVerificationError, UnicodeDecodeError)):
        Webhook(secret.get_secret_value()).verify(bytes(body), headers)


@given(change=CHANGES, offset=st.integers(-12, 14))
def test_the_time_of_a_signature_is_the_moment_in_any_zone(change: OutgoingChange, offset: int) -> None:
    """Verifiers refuse what is older than five minutes."""
    secret = SecretStr(PREFIX + base64.b64encode(bytes(32)).decode())
    body = wrap(change)
    here = datetime.now(timezone(timedelta(hours=offset)))
    Webhook(secret.get_secret_value()).verify(body, sign(change.id, here, body, [secret]))


@given(change=CHANGES)
def test_a_change_is_read_as_the_public_model(change: OutgoingChange) -> None:
    """A kind without fields of its own takes every record."""
    plain = typed(replace(change, kind="of.your-own"))
    assert (change.id, change.seq, change.external_id) == (plain.id, plain.seq, plain.external_id)
    assert isinstance(plain, Change)
