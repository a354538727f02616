"""Authenteq: signatures over streamed bodies, multipart bodies, and confirmation by the export."""

import hashlib
import hmac
import random
from base64 import b64encode, encodebytes
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import BrokenAnswer, NotAuthentic, Unreadable
from shared.providers.authenteq import PROVIDER
from shared.providers.authenteq.auth import AuthenteqInbound
from shared.providers.authenteq.events import IMAGES, AuthenteqEvent
from shared.providers.authenteq.settings import SIGNATURE_FORMS, AuthenteqAccount, SignatureForm
from shared.providers.interface import Answer, Blob, Call, Delivery, Plan, Record, Unverified
from unit.providers.contract_suite import Headers, InboundContract, Recorded, recorded_deliveries


FOLLOW_UP = PROVIDER.follow_up
EVENT_ID = UUID(int=7)
BOUNDARY = b"----=_Part_7_1836643189"
REQUIRED = ("croppedFrontImage", "croppedBackImage", "faceImage", "livenessFaceImage")
RESULT = b'{"id": "v-1", "status": "PASSED", "documentData": {"documentType": "DL", "height": 1.80}}'


def account(name: str = "main", **settings: Any) -> AuthenteqAccount:
    """An account as ``penstock.toml`` would give it."""
    return AuthenteqAccount.model_validate(
        {
            "name": name,
            "client_id": f"{name}-client",
            "client_secrets": [f"{name}-secret-1", f"{name}-secret-2"],
            **settings,
        }
    )


def signed(form: SignatureForm, secret: bytes, body: bytes) -> bytes:
    """The hex signature of a body."""
    match form:
        case "hmac-sha256":
            return hmac.new(secret, body, "sha256").hexdigest().encode()
        case "sha256-body-secret":
            return hashlib.sha256(body + secret).hexdigest().encode()
        case "sha256-secret-body":
            return hashlib.sha256(secret + body).hexdigest().encode()


class TestInbound(InboundContract):
    """A client id and a signature, here in the first form."""

    success_status = 200
    secret_headers = (b"x-client-id", b"x-signature")
    signs_body = True
    form: SignatureForm = "hmac-sha256"
    setting = "hmac-sha256"

    def inbound(self) -> AuthenteqInbound:
        """Two clients."""
        return AuthenteqInbound([account("other", signature=self.setting), account(signature=self.setting)])

    def genuine_headers(self, key_number: int, body: bytes) -> Headers:
        """The signature under the first or second secret."""
        secret = f"main-secret-{key_number + 1}".encode()
        return [(b"x-client-id", b"main-client"), (b"x-signature", signed(self.form, secret, body))]

    @pytest.mark.parametrize("change", [bytes.upper, bytes.lower, bytes.swapcase])
    def test_hexadecimal_digits_are_read_in_either_case(self, change: Any) -> None:
        """Authenteq does not say which it sends."""
        signature = change(dict(self.request().headers)[b"x-signature"])
        assert self.account == self.admit(self.with_values(b"x-signature", signature))

    @pytest.mark.parametrize("signature", [b"0" * 63, b"0" * 65, b"g" * 64, b" " * 64, b"0x" + b"0" * 62, b"00 " * 22])
    def test_a_malformed_signature_is_refused_before_the_body_is_awaited(self, signature: bytes) -> None:
        """By its header alone."""
        with pytest.raises(NotAuthentic):
            self.inbound().authenticate(self.with_values(b"x-signature", signature))

    def test_a_signature_of_another_account_is_refused(self) -> None:
        """Each client has its own secrets."""
        other = signed(self.form, b"other-secret-1", b"{}")
        self.refused(self.with_values(b"x-signature", other))
        self.refused(self.with_values(b"x-client-id", b"other-client"))

    def test_a_body_of_64_mib_has_60_seconds(self) -> None:
        """Deliveries carry up to eleven images."""
        assert (64 * 1024 * 1024, 60.0) == (self.inbound().max_body_bytes, self.inbound().body_seconds)


class TestInboundBodySecret(TestInbound):
    """The second form: the secret after the body."""

    form = "sha256-body-secret"
    setting = "sha256-body-secret"


class TestInboundSecretBody(TestInbound):
    """The third form: the secret before the body."""

    form = "sha256-secret-body"
    setting = "sha256-secret-body"


class TestInboundAuto(TestInbound):
    """No form is pinned: the contract holds as well."""

    form = "sha256-secret-body"
    setting = "auto"


class TestForms:
    """Pinned forms and ``auto``."""

    @pytest.mark.parametrize("form", SIGNATURE_FORMS)
    @pytest.mark.parametrize("secret", [b"main-secret-1", b"main-secret-2"])
    def test_auto_accepts_each_form_and_remembers_which(self, form: SignatureForm, secret: bytes) -> None:
        """So that it can be pinned; nothing is remembered before the body has proved it."""
        inbound = AuthenteqInbound([account()])
        body = b"body"
        headers = [(b"x-client-id", b"main-client"), (b"x-signature", signed(form, secret, body))]
        check = inbound.authenticate(Unverified(headers)).body_check
        assert check is not None
        check.update(body)
        assert {} == inbound.matched_forms
        check.finish()
        assert {"main": form} == inbound.matched_forms

    @pytest.mark.parametrize("pinned", SIGNATURE_FORMS)
    def test_a_pinned_form_refuses_the_others(self, pinned: SignatureForm) -> None:
        """Only one reading is left, and what is refused is not remembered."""
        inbound = AuthenteqInbound([account(signature=pinned)])
        for form in set(SIGNATURE_FORMS) - {pinned}:
            headers = [(b"x-client-id", b"main-client"), (b"x-signature", signed(form, b"main-secret-1", b"body"))]
            check = inbound.authenticate(Unverified(headers)).body_check
            assert check is not None
            check.update(b"body")
            with pytest.raises(NotAuthentic):
                check.finish()
        assert {} == inbound.matched_forms

    def test_an_empty_body_says_nothing_about_the_form(self) -> None:
        """Before or after nothing is the same place: the form that was remembered stays."""
        inbound = AuthenteqInbound([account()])
        headers = [
            (b"x-client-id", b"main-client"),
            (b"x-signature", signed("sha256-body-secret", b"main-secret-1", b"")),
        ]
        check = inbound.authenticate(Unverified(headers)).body_check
        assert check is not None
        check.finish()
        assert {} == inbound.matched_forms

    @given(form=st.sampled_from(SIGNATURE_FORMS), body=st.binary(max_size=400), chunk=st.integers(1, 50))
    def test_it_does_not_matter_how_the_body_is_cut_into_chunks(
        self, form: SignatureForm, body: bytes, chunk: int
    ) -> None:
        """The digest is over the raw bytes, streamed."""
        headers = [(b"x-client-id", b"main-client"), (b"x-signature", signed(form, b"main-secret-2", body))]
        assert TestInboundAuto().admit(Unverified(headers), body, chunk=chunk) == "main"


class TestSettings:
    """What an account may say."""

    def test_the_host_of_the_export_is_known(self) -> None:
        """It is the documented one unless said otherwise."""
        assert account().base_url == "https://api.app.authenteq.com"

    def test_the_secrets_are_shared_and_the_client_id_is_the_accounts_own(self) -> None:
        """The configuration refuses a client id or a secret that two accounts have, but not a secret used both ways."""
        main = account()
        secrets = ["main-secret-1", "main-secret-2"]
        assert ["main-client", *secrets] == [key.get_secret_value() for key in main.inbound_secrets()]
        assert secrets == [key.get_secret_value() for key in main.outbound_secrets()]
        assert secrets == [key.get_secret_value() for key in main.shared_secrets()]

    @pytest.mark.parametrize("wrong", [{"client_secrets": []}, {"client_secrets": ["a"] * 3}, {"signature": "md5"}])
    def test_a_wrong_setting_is_refused(self, wrong: dict[str, Any]) -> None:
        """One or two secrets, and a known form."""
        with pytest.raises(ValidationError):
            account(**wrong)


def part(name: str, content: bytes, *headers: bytes) -> bytes:
    """One part with its delimiter."""
    disposition = b'Content-Disposition: form-data; name="' + name.encode() + b'"'
    return b"--" + BOUNDARY + b"\r\n" + b"\r\n".join([disposition, *headers]) + b"\r\n\r\n" + content + b"\r\n"


def image(name: str, content: bytes = b"\x89PNG") -> bytes:
    """An image part."""
    return part(name, content, b"Content-Type: image/png")


def images(*names: str) -> bytes:
    """Several image parts."""
    return b"".join(image(name) for name in names)


END = b"--" + BOUNDARY + b"--\r\n"


def delivery(body: bytes, content_type: str = f'multipart/form-data; boundary="{BOUNDARY.decode()}"') -> Delivery:
    """A delivery to ``main``."""
    return Delivery(EVENT_ID, "main", body, content_type)


def read(body: bytes, **settings: Any) -> AuthenteqEvent:
    """A body's event."""
    return FOLLOW_UP.read(delivery(body), account(**settings))


def planned(body: bytes, **settings: Any) -> Plan:
    """What a body leads to."""
    return FOLLOW_UP.plan(read(body, **settings), delivery(body), account(**settings))


def data_of(records: Sequence[Record]) -> dict[str, Any]:
    """The only record's data."""
    (record,) = records
    assert ("authenteq.verification", "v-1", False, False) == (
        record.kind,
        record.external_id,
        record.deleted,
        record.once,
    )
    assert record.data is not None
    found: dict[str, Any] = orjson.loads(record.data)
    return found


def reason(body: bytes, content_type: str | None = None, **settings: Any) -> str:
    """Why a body is parked."""
    received = delivery(body) if content_type is None else delivery(body, content_type)
    with pytest.raises(Unreadable) as caught:
        FOLLOW_UP.read(received, account(**settings))
    return caught.value.reason


@pytest.mark.parametrize("recorded", recorded_deliveries("authenteq"), ids=lambda recorded: recorded.name)
def test_a_recorded_delivery_leads_to_what_is_expected(recorded: Recorded) -> None:
    """From the headers to the record and its blobs, or to the reason why it is parked."""
    main = account(client_id="authenteq-client", client_secrets=["authenteq-secret-1"])
    admission = AuthenteqInbound([main]).authenticate(Unverified(recorded.headers))
    assert admission.body_check is not None
    admission.body_check.update(recorded.body)
    admission.body_check.finish()
    received = Delivery(EVENT_ID, "main", recorded.body, recorded.content_type)
    found: dict[str, Any]
    try:
        event = FOLLOW_UP.read(received, main)
        plan = FOLLOW_UP.plan(event, received, main)
        (record,) = plan.records
        data = orjson.loads(record.data or "")
        assert [blob.key.rpartition("/")[2] for blob in plan.blobs] == list(data["images"])
        found = {
            "types": list(FOLLOW_UP.types(event)),
            "identity": FOLLOW_UP.identity(event),
            "calls": [call.path for call in plan.calls],
            "images": list(data["images"]),
            "missing_parts": data.get("missing_parts", []),
            "repeated_parts": data.get("repeated_parts", []),
        }
    except Unreadable as error:
        found = {"unreadable": error.reason}
    assert recorded.expected == found


class TestReading:
    """Multipart bodies."""

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (b"", "empty"),
            (b"\r\n", "empty"),
            (b"{}", "missing-part"),
            (END, "missing-part"),
            (images(*REQUIRED) + END, "missing-part"),
            (part("result", RESULT)[:-40], "missing-part"),
            (part("Result", RESULT) + END, "missing-part"),
            (part("result", RESULT) * 2 + END, "repeated-part"),
            (part("result", b"") + END, "empty"),
            (part("result", b"<result/>") + END, "not-json"),
            (part("result", b"[]") + END, "wrong-shape"),
            (part("result", b"{}") + END, "wrong-shape"),
            (part("result", b'{"id": 7}') + END, "wrong-shape"),
            (part("result", b'{"id": ""}') + END, "wrong-shape"),
            (part("result", b'{"id": "' + b"a" * 256 + b'"}') + END, "wrong-shape"),
        ],
    )
    def test_only_what_is_wrong_with_the_result_parks(self, body: bytes, why: str) -> None:
        """Missing, repeated or unreadable."""
        assert why == reason(body)

    @pytest.mark.parametrize(
        "content_type",
        [
            "",
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "text/plain; boundary=x",
            "é€;",
        ],
    )
    def test_without_a_boundary_there_is_nothing_to_read(self, content_type: str) -> None:
        """The content type is part of the shape."""
        assert reason(part("result", RESULT) + END, content_type) == "wrong-shape"

    def test_a_boundary_longer_than_mime_allows_is_not_an_error_of_ours(self) -> None:
        """No part is found with it."""
        assert reason(b"x", f"multipart/form-data; boundary={'b' * 5000}") == "missing-part"

    @pytest.mark.parametrize(
        "kind", [b"", b"Content-Type: application/json", b"Content-Type: text/plain; charset=utf-8"]
    )
    def test_the_result_may_have_any_content_type(self, kind: bytes) -> None:
        """The seed only says "string"."""
        headers = [kind] if kind else []
        assert RESULT == read(part("result", RESULT, *headers) + END).result_json

    def test_parts_are_freed_of_a_transfer_encoding(self) -> None:
        """The seed calls the body a MIME message."""
        content = bytes(range(256))
        event = read(
            part("result", b'{"id":=20"v-1"}', b"Content-Transfer-Encoding: Quoted-Printable")
            + part(
                "faceImage",
                encodebytes(content),
                b"content-transfer-encoding: base64",
                b"Content-Type: IMAGE/JPEG; a=b",
            )
            + part("livenessFaceImage", b"a", b"Content-Transfer-Encoding: base64", b"Content-Type: not a type")
            + part("croppedFrontImage", content, b"Content-Transfer-Encoding: binary")
            + END
        )
        found = {name: (one.content, one.content_type) for name, one in event.images.items()}
        assert {
            "faceImage": (content, "image/jpeg"),
            "livenessFaceImage": (b"a", "application/octet-stream"),
            "croppedFrontImage": (content, "application/octet-stream"),
        } == found
        assert event.result.id == "v-1"

    def test_preamble_epilogue_and_unknown_parts_are_ignored(self) -> None:
        """MIME allows the first two; the last may come with a new version."""
        body = b"a preamble\r\n" + image("faceImage4") + part("result", RESULT) + part("", b"x") + END + b"an epilogue"
        assert ({}, "v-1") == (read(body).images, read(body).result.id)

    def test_an_image_that_was_cut_off_is_missing(self) -> None:
        """Half an image is no evidence; the rest is kept."""
        event = read(part("result", RESULT) + images(*REQUIRED)[:-3])
        assert ["livenessFaceImage"] == event.missing_parts

    @given(content=st.binary(max_size=300), chance=st.randoms(use_true_random=False))
    def test_any_content_comes_out_byte_for_byte(self, content: bytes, chance: random.Random) -> None:
        """Also with line ends and pieces of the delimiter inside."""
        pieces = [content, b"\r\n", b"\r\n--", b"--" + BOUNDARY[:9], b"\r", b"\r\n--" + BOUNDARY[:-1], b"-" * 9]
        chance.shuffle(pieces)
        whole = b"".join(pieces)
        assume(b"\r\n--" + BOUNDARY not in whole)  # no sender lets the delimiter itself come about
        body = part("result", RESULT) + image("faceImage", whole) + END
        assert whole == read(body).images["faceImage"].content

    @given(body=st.binary(max_size=400), begin=st.integers(0, 400), end=st.integers(0, 400))
    def test_a_mangled_body_is_read_or_parked(self, body: bytes, begin: int, end: int) -> None:
        """No body of an authentic delivery is an error of ours."""
        whole = part("result", RESULT) + images(*REQUIRED) + END
        try:
            event = read(whole[:begin] + body + whole[end:])
        except Unreadable:
            return
        assert event.result.id


class TestParts:
    """Images."""

    def test_every_image_of_the_seeds_table_becomes_a_blob(self) -> None:
        """Referred to by key, type, size and digest."""
        names = sorted(IMAGES)
        assert len(names) == 11
        plan = planned(part("result", RESULT) + b"".join(image(name, name.encode()) for name in names) + END)
        prefix = f"authenteq/main/{EVENT_ID}"
        assert [Blob(f"{prefix}/{name}", name.encode(), "image/png") for name in names] == list(plan.blobs)
        assert {
            name: {
                "blob": f"{prefix}/{name}",
                "content_type": "image/png",
                "bytes": len(name),
                "sha256": hashlib.sha256(name.encode()).hexdigest(),
            }
            for name in names
        } == data_of(plan.records)["images"]

    def test_the_results_own_members_keep_their_text(self) -> None:
        """Every digit, in order, with what we note behind them."""
        (record,) = planned(part("result", RESULT) + images(*REQUIRED) + END).records
        assert record.data is not None
        head = '{"id":"v-1","status":"PASSED","documentData":{"documentType": "DL", "height": 1.80},"images":{'
        assert record.data.startswith(head)
        assert ["id", "status", "documentData", "images"] == list(data_of([record]))

    @pytest.mark.parametrize("absent", REQUIRED)
    @pytest.mark.parametrize("empty", [True, False])
    def test_a_missing_or_empty_required_image_is_noted(self, absent: str, *, empty: bool) -> None:
        """The rest is kept all the same."""
        body = part("result", RESULT) + images(*(name for name in REQUIRED if name != absent))
        data = data_of(planned(body + (image(absent, b"") if empty else b"") + END).records)
        assert [absent] == data["missing_parts"]
        assert absent not in data["images"]

    def test_strict_parts_parks_instead(self) -> None:
        """A setting."""
        assert reason(part("result", RESULT) + images(*REQUIRED[:3]) + END, strict_parts=True) == "missing-part"
        assert [] == read(part("result", RESULT) + images(*REQUIRED) + END, strict_parts=True).missing_parts

    @pytest.mark.parametrize(
        ("document", "missing"),
        [
            ({"documentType": "PP"}, []),
            ({"documentType": "NID"}, ["croppedBackImage"]),
            ({"documentType": ["PP"]}, ["croppedBackImage"]),
            ({}, ["croppedBackImage"]),
            (None, ["croppedBackImage"]),
            ("PP", ["croppedBackImage"]),
        ],
    )
    def test_a_passport_has_no_back(self, document: Any, missing: list[str]) -> None:
        """Any other document has, and a document of an odd shape parks nothing."""
        result = orjson.dumps({"id": "v-1", "documentData": document})
        event = read(part("result", result) + images("croppedFrontImage", "faceImage", "livenessFaceImage") + END)
        assert missing == event.missing_parts

    def test_of_a_repeated_image_the_first_is_kept_and_it_is_noted(self) -> None:
        """Once, however often it comes."""
        again = image("faceImage", b"second")
        plan = planned(part("result", RESULT) + images(*REQUIRED) + again + again + END)
        assert ["faceImage"] == data_of(plan.records)["repeated_parts"]
        assert [b"\x89PNG"] * 4 == [blob.content for blob in plan.blobs]


DELIVERED = part("result", RESULT) + images(*REQUIRED) + END


def confirming() -> Call:
    """The call that ``confirm = true`` adds."""
    (call,) = planned(DELIVERED, confirm=True).calls
    return call


def confirmed(exported: Mapping[str, Any] | bytes) -> dict[str, Any]:
    """The record's data after the export answered."""
    body = exported if isinstance(exported, bytes) else orjson.dumps(exported)
    return data_of(FOLLOW_UP.interpret(confirming(), Answer(200, {}, body), account(confirm=True)).records)


class TestConfirm:
    """Fetching the result again."""

    def test_nothing_is_called_unless_it_is_set(self) -> None:
        """The delivery carries everything."""
        assert [] == list(planned(DELIVERED).calls)

    def test_the_record_is_written_at_once_and_the_export_is_called(self) -> None:
        """If the export never answers, nothing is lost."""
        assert planned(DELIVERED).records == planned(DELIVERED, confirm=True).records
        call = confirming()
        assert call.path == "/export/verification-result-as-json?verificationId=v-1"
        assert orjson.loads(orjson.dumps(call.context)) == call.context

    def test_an_id_is_quoted_into_the_path(self) -> None:
        """It comes from a delivery: nothing in it may add to the path or the query."""
        body = part("result", '{"id": "a/../b?c&d=e #ü"}'.encode()) + END
        (call,) = planned(body, confirm=True).calls
        assert call.path.endswith("?verificationId=a%2F..%2Fb%3Fc%26d%3De%20%23%C3%BC")

    def test_the_newest_secret_is_the_password(self) -> None:
        """Basic authentication; no limit is known."""
        token = b64encode(b"main-client:main-secret-1").decode()
        assert {"Authorization": f"Basic {token}"} == FOLLOW_UP.credentials(confirming(), account())
        assert FOLLOW_UP.limit(confirming(), account()) is None

    @pytest.mark.parametrize(
        "exported",
        [
            RESULT,
            b'{"documentData": {"height": 1.8, "documentType": "DL"}, "id": "v-1", "documentData2": null}',
            RESULT[:-1] + b', "faceImage": {"contentType": "image/png", "content": "iVBORw=="}}',
        ],
    )
    def test_the_same_result_is_confirmed(self, exported: bytes) -> None:
        """Order, trailing zeros, nulls, a left-out status and inline images are no differences."""
        data = confirmed(exported)
        assert (True, []) == (data.pop("confirmed"), data.pop("confirmed_differences"))
        assert data_of(planned(DELIVERED).records) == data

    @pytest.mark.parametrize(
        ("exported", "differences"),
        [
            ({"id": "v-1", "status": "FAILED"}, ["documentData", "status"]),
            ({"id": "v-1", "documentData": {"documentType": "DL", "height": 1.81}}, ["documentData"]),
            ({"id": "v-1", "documentData": {"documentType": "DL", "height": 1.8}, "more": 1}, ["more"]),
        ],
    )
    def test_differences_are_named(self, exported: dict[str, Any], differences: list[str]) -> None:
        """What was delivered stays in the record."""
        data = confirmed(exported)
        assert (False, differences) == (data["confirmed"], data["confirmed_differences"])
        assert data["status"] == "PASSED"

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"id": "v-2"}', b'{"id": 1', b'{"id": null}'])
    def test_another_answer_is_broken(self, body: bytes) -> None:
        """It is asked for again and says nothing about the delivery."""
        with pytest.raises(BrokenAnswer):
            confirmed(body)
