"""Paybook: what an answer means: records, files, and the page behind it."""

import hashlib
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AnswerError, BrokenAnswer, RefusedAnswer
from shared.providers.interface import Answer, Blob, Call, Outcome, Record
from shared.providers.paybook.plan import ENDLESS_PAGE
from unit.providers.test_paybook import account
from unit.providers.test_paybook_events import FOLLOW_UP


EXPORT = "/v1/attachments/export?id_credential=c&limit=2&skip=0&wbhk=1"
KINDS = {
    "credentials": ("paybook.credential", "id_credential"),
    "accounts": ("paybook.account", "id_account"),
    "transactions": ("paybook.transaction", "id_transaction"),
    "attachments": ("paybook.attachment", "id_attachment"),
}


def call(path: str = "/v1/transactions", purpose: str = "transactions", page: int = 1, **context: Any) -> Call:
    """A planned call of the user ``u1``."""
    return Call(path, purpose, {"id_user": "u1", **context}, pick="u1", page=page)


def ok(response: str, content_type: str = "application/json; charset=utf-8") -> Answer:
    """A successful envelope around this JSON text."""
    text = f'{{"rid": "r", "code": 200, "errors": null, "status": true, "message": null, "response": {response}}}'
    return Answer(200, {"content-type": content_type}, text.encode())


def rows(*ids: str, key: str = "id_transaction") -> Answer:
    """A list of rows that have nothing but ids."""
    return ok(msgspec.json.encode([{key: each} for each in ids]).decode())


def interpret(asked: Call, answer: Answer) -> Outcome:
    """What the follow-up makes of it."""
    return FOLLOW_UP.interpret(asked, answer, account())


# ── the same answer again ─────────────────────────────────────────────────────────────────────────────────────────


def essence(body: bytes, purpose: str = "transactions", content_type: str = "application/json") -> bytes | None:
    """What is compared of an answer."""
    found = FOLLOW_UP.essence(call(f"/v1/{purpose}", purpose), Answer(200, {"content-type": content_type}, body))
    return None if found is None else bytes(found)


def test_two_answers_that_differ_by_the_request_id_alone_have_the_same_essence() -> None:
    """Every answer has an id of its own, right at its beginning."""
    assert essence(b'{"rid":"0a-1","code":200,"response":[]}') == essence(b' { "rid" : "ff","code":200,"response":[]}')


@pytest.mark.parametrize(
    "other",
    [
        b'{"rid":"1","code":500,"response":[{"rid":"1"}]}',
        b'{"rid":"1","code":200,"response":[{"rid":"2"}]}',
        b'{"rid":"1","code":200,"response":[]}',
        b'{"code":200,"rid":"1","response":[{"rid":"1"}]}',
    ],
)
def test_whatever_else_differs_is_another_essence(other: bytes) -> None:
    """The envelope's code, a member of that name in a row, the rows; where the id stands elsewhere, it counts."""
    assert essence(other) != essence(b'{"rid":"1","code":200,"response":[{"rid":"1"}]}')


def test_a_file_has_none() -> None:
    """It is kept by its own digest."""
    assert essence(b"<xml/>", "attachments", "text/xml") is None


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("purpose", sorted(KINDS))
def test_rows_become_records_by_their_own_id(purpose: str) -> None:
    """Each resource has its kind and its id; the row is kept as it was sent, blanks and all."""
    kind, key = KINDS[purpose]
    row = f'{{ "{key}":"5b01",  "id_user": "u", "extra": null }}'
    found = interpret(call(f"/v1/{purpose}", purpose), ok(f"[{row}]"))
    assert Outcome([Record(kind, "5b01", row)], ()) == found


@pytest.mark.parametrize(
    "digits", ["22339.470000000001", "60", "1.10", "1e2", "-0.00", "1E+2", "9" * 40, "0.1" + "0" * 30]
)
def test_amounts_keep_the_digits_that_were_sent(digits: str) -> None:
    """No number passes through a binary float (the provider's own noise is kept as well)."""
    row = f'{{"id_transaction": "t", "amount": {digits}, "extra": {{"fee": [{digits}]}}}}'
    [record] = interpret(call(), ok(f"[{row}]")).records
    assert row == record.data


def test_an_escaped_nul_in_a_string_does_not_fail_a_page() -> None:
    """``jsonb`` refuses it, so it has the stated form of json_text; the other rows stay as they are."""
    answer = ok(r'[{"id_transaction":"a","d":"x\u0000y"},{"id_transaction":"b","d":"\\u0000"}]')
    assert [r'{"id_transaction":"a","d":"x\ufffdy"}', r'{"id_transaction":"b","d":"\\u0000"}'] == [
        record.data for record in interpret(call(), answer).records
    ]


@pytest.mark.parametrize(
    ("flag", "deleted"),
    [("1", True), ("true", True), ('"1"', True), ("0", False), ("false", False), ("null", False), ('"0"', False)],
)
def test_is_deleted_makes_a_tombstone_that_keeps_its_data(flag: str, deleted: bool) -> None:  # noqa: FBT001 - a table's column
    """Transactions are deleted softly: the row still comes, with the flag set."""
    row = f'{{"id_transaction":"t","is_deleted":{flag}}}'
    assert [Record("paybook.transaction", "t", row, deleted=deleted)] == interpret(call(), ok(f"[{row}]")).records


def test_is_disable_is_a_field_like_any_other() -> None:
    """A disabled row is still there; its flag shows among the changed fields."""
    row = '{"id_transaction":"t","is_disable":1,"is_deleted":0}'
    assert [Record("paybook.transaction", "t", row)] == interpret(call(), ok(f"[{row}]")).records


def test_a_credential_by_its_id_may_come_as_a_list_or_alone() -> None:
    """The vendor's sample reads a list; no recorded body says so."""
    asked = call("/v1/credentials/5e", "credentials")
    row = '{"id_credential":"5e","code":410}'
    alone, listed = interpret(asked, ok(f" {row} ")), interpret(asked, ok(f" [{row}]"))
    assert [Record("paybook.credential", "5e", row)] == alone.records == listed.records


def test_whole_numbers_are_taken_for_ids() -> None:
    """An id is text, however it was spelled."""
    assert ["17"] == [r.external_id for r in interpret(call(), ok('[{"id_transaction":17}]')).records]


@pytest.mark.parametrize(
    "response",
    [
        "null",
        "true",
        '"rows"',
        "7",
        '{"count": 3}',
        "[1]",
        "[null]",
        "[[]]",
        "[{}]",
        '[{"id_transaction":null}]',
        '[{"id_transaction":""}]',
        '[{"id_transaction":" "}]',
        '[{"id_transaction":"a b"}]',
        '[{"id_transaction":"a\\u0000"}]',
        '[{"id_transaction":"\u00e9"}]',
        '[{"id_transaction":true}]',
        '[{"id_transaction":1.5}]',
        '[{"id_transaction":["t"]}]',
        '[{"id_account":"t"},{"id_account":"u"}]',
        '[{"id_transaction":"' + "t" * 201 + '"}]',
    ],
)
def test_rows_without_a_usable_id_are_a_broken_answer(response: str) -> None:
    """The whole page is asked for again; no part of it is kept under a wrong name."""
    with pytest.raises(BrokenAnswer):
        interpret(call(), ok(response))


def test_one_row_without_a_usable_id_is_set_aside_from_its_neighbours() -> None:
    """Of a page of thousands the others are records, in order; the row is named by its place alone."""
    listed = [{"id_transaction": f"t{number}", "amount": number} for number in range(5000)]
    listed[4711] = {"id_transaction": None, "amount": "a secret"}

    outcome = interpret(call(), ok(msgspec.json.encode(listed).decode()))

    assert [f"t{number}" for number in range(5000) if number != 4711] == [each.external_id for each in outcome.records]
    [aside] = outcome.set_aside
    assert "row 4712" == aside.what
    assert "id" in aside.why
    assert "secret" not in aside.why


@pytest.mark.parametrize(
    "row", ["7", "null", "[]", '{"id_transaction":"a b"}', '{"id_transaction":["t"]}', '{"id_transaction":1.5}']
)
def test_whatever_is_wrong_with_a_row_it_is_that_rows_alone(row: str) -> None:
    """A row of another shape is no reason to keep its neighbours back, first or last in the page."""
    good = '{"id_transaction":"t"}'
    for response in (f"[{row},{good}]", f"[{good},{row}]"):
        outcome = interpret(call(), ok(response))

        assert ["t"] == [each.external_id for each in outcome.records]
        assert 1 == len(outcome.set_aside)


def test_a_page_of_which_many_rows_cannot_be_read_is_a_broken_answer() -> None:
    """That is another shape, not a bad row: the page is asked for again."""
    listed = [{"id_transaction": "t"}] + [{"id": "t"}] * 101

    with pytest.raises(BrokenAnswer):
        interpret(call(), ok(msgspec.json.encode(listed).decode()))


def test_a_full_page_with_a_bad_row_leads_to_the_next_page() -> None:
    """How many rows it has says whether there are more, read or not."""
    page = call("/v1/transactions?limit=2&skip=0", last=True)

    outcome = interpret(page, ok('[{"id_transaction":"t"},{}]'))

    assert ["/v1/transactions?limit=2&skip=2"] == [each.path for each in outcome.next]


# ── the envelope ──────────────────────────────────────────────────────────────────────────────────────────────────


def envelope(**changes: Any) -> Answer:
    """An answer with HTTP 200 whose envelope is changed."""
    body = {"rid": "r", "code": 200, "errors": None, "status": True, "message": None, "response": [], **changes}
    return Answer(200, {"content-type": "application/json"}, msgspec.json.encode(body))


@pytest.mark.parametrize("status", [True, False])
def test_the_envelopes_own_code_counts(status: bool) -> None:  # noqa: FBT001 - a table's column
    """A 401 inside an HTTP 200 is a 401, whatever ``status`` says."""
    with pytest.raises(RefusedAnswer) as caught:
        interpret(call(), envelope(code=401, status=status, message="Unauthorized", response=None))
    assert (401, "the envelope says 401: Unauthorized") == (caught.value.status, str(caught.value))


def test_a_message_of_the_provider_is_cut_and_made_printable() -> None:
    """It ends in a text column and on a terminal; between words, for half a key would not be known for one."""
    with pytest.raises(RefusedAnswer) as caught:
        interpret(call(), envelope(code=500, status=False, message="\x1b[31m" + "no " * 400))
    assert "the envelope says 500: ?[31m" + "no " * 65 + "..." == str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": False},
        {"status": 1},
        {"status": None},
        {"status": "true"},
        {"code": None},
        {"code": "200"},
        {"code": True},
        {"code": 200.0},
        {"code": 99},
        {"code": 600},
        {"code": -401, "status": False},
        {"code": None, "status": False},
    ],
)
def test_an_envelope_that_contradicts_itself_is_broken(changes: dict[str, Any]) -> None:
    """Success is a code of 2xx and a status of true; a code outside HTTP's is no code."""
    with pytest.raises(BrokenAnswer):
        interpret(call(), envelope(**changes))


def test_any_code_of_success_will_do() -> None:
    """Such as 201 or 204."""
    assert [[], []] == [interpret(call(), envelope(code=code)).records for code in (201, 204)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b"{}",
        ok("[").body,
        ok('[{"id_transaction":"t"}]').body[:-1],
        ok('[{"id_transaction":"t"}]').body[:-12],
        ok('[{"id_transaction":"t","d":"').body + b'\xff"}]}',
        ok('[{"id_transaction":"@"}]').body.replace(b"@", b"\xff"),
        ok('[{"id_transaction":"t","d":"@"}]').body.replace(b"@", b"\xff"),
        b"[" * 100_000,
    ],
)
def test_what_is_no_envelope_is_broken(body: bytes) -> None:
    """Truncated, not JSON, of another shape: asked for again."""
    with pytest.raises(BrokenAnswer):
        interpret(call(), Answer(200, {"content-type": "application/json"}, body))


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_last_page_is_followed_by_the_next() -> None:
    """Only the number of ``skip`` changes; everything else stays byte for byte."""
    path = "/v1/transactions?z=%20&limit=2&id_credential=c&skip=10&wbhk=1&a=[]"
    asked = call(path, last=True)
    [following] = interpret(asked, rows("t1", "t2")).next
    expected = call(path.replace("skip=10", "skip=12"), page=2, last=True, first="t1")
    assert (expected, expected.resource) == (following, following.resource)


@pytest.mark.parametrize("ids", [(), ("t1",), ("t1", "t2", "t3")])
def test_a_page_that_is_not_exactly_full_is_the_end(ids: tuple[str, ...]) -> None:
    """More rows than asked for mean that ``limit`` was not heeded, and then ``skip`` would not be either."""
    outcome = interpret(call("/v1/transactions?limit=2&skip=0", last=True), rows(*ids))
    assert (len(ids), ()) == (len(outcome.records), tuple(outcome.next))


@pytest.mark.parametrize("context", [{"last": False}, {}])
def test_a_full_page_below_the_last_is_not_followed(context: dict[str, Any]) -> None:
    """The page behind it is listed and has a call of its own."""
    assert () == tuple(interpret(call("/v1/transactions?limit=2&skip=0", **context), rows("t1", "t2")).next)


def test_forty_full_pages_end_with_one_empty_one() -> None:
    """From the last listed page on, each page leads to the next until a short one."""
    asked, seen = call("/v1/transactions?limit=1&skip=0", last=True), []
    for number in range(40):
        seen.append(asked.path)
        [asked] = interpret(asked, rows(f"t{number}")).next
        assert number + 2 == asked.page
    assert () == tuple(interpret(asked, rows()).next)
    assert [f"/v1/transactions?limit=1&skip={number}" for number in range(40)] == seen


def test_a_page_that_repeats_ends_the_chain_as_endless() -> None:
    """A server that takes no notice of ``skip`` is not asked ten thousand times; what it gave is kept."""
    asked = call("/v1/transactions?limit=2&skip=2", page=2, last=True, first="t1")
    outcome = interpret(asked, rows("t1", "t2"))
    assert (["t1", "t2"], [ENDLESS_PAGE]) == ([r.external_id for r in outcome.records], [n.page for n in outcome.next])


def test_a_full_page_of_5000_rows_is_cheap() -> None:
    """Well under 50 ms of CPU on an idle machine; the bound leaves room for a loaded one."""
    row = (
        '{"id_transaction":"5b%022d","id_account":"57","is_deleted":0,"is_disable":0,"description":"Card 20",'
        '"amount":22339.470000000001,"currency":"MXN","attachments":[],"extra":null,"dt_transaction":1533099600,'
        '"dt_refresh":1584641716,"dt_disable":null,"dt_deleted":null}'
    )
    answer = ok(f"[{','.join(row % number for number in range(5000))}]")
    asked = call("/v1/transactions?limit=5000&skip=0", last=True)
    best = 1.0
    for _ in range(5):
        began = time.process_time()
        outcome = interpret(asked, answer)
        best = min(best, time.process_time() - began)
    assert (5000, 1) == (len(outcome.records), len(outcome.next))
    assert best < 0.2


# ── attachments ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/problem+json", "text/json", "Application/JSON; charset=utf-8", ""]
)
def test_an_export_in_json_is_rows_like_any_other(content_type: str) -> None:
    """Known by its content type, or by its first character where none was sent; and paged the same way."""
    outcome = interpret(
        call(EXPORT, "attachments", last=True),
        ok('[{"id_attachment":"a1"},{"id_attachment":"a2"}]', content_type),
    )
    assert ["a1", "a2"] == [record.external_id for record in outcome.records]
    assert [EXPORT.replace("skip=0", "skip=2")] == [following.path for following in outcome.next]


@pytest.mark.parametrize(
    ("content_type", "kept_as"),
    [
        ("application/zip", "application/zip"),
        ("text/xml; charset=utf-8", "text/xml"),
        ("", "application/octet-stream"),
        ("not a type", "application/octet-stream"),
    ],
)
def test_an_export_that_is_no_json_is_kept_as_a_blob(content_type: str, kept_as: str) -> None:
    """Its record is named after the call, and refers to the blob by key, type, size and digest."""
    content, asked = b"PK\x03\x04 not JSON", call(EXPORT, "attachments", last=True)
    digest = hashlib.sha256(content).hexdigest()
    outcome = interpret(asked, Answer(200, {"content-type": content_type}, content))
    [record] = outcome.records
    assert [Blob(f"paybook/main/{digest}", content, kept_as)] == outcome.blobs
    assert ("paybook.attachment", f"file:{hashlib.sha256(asked.resource.encode()).hexdigest()}") == record[:2]
    assert {
        "blob": f"paybook/main/{digest}",
        "content_type": kept_as,
        "bytes": len(content),
        "sha256": digest,
    } == msgspec.json.decode(record.data or "")
    assert () == tuple(outcome.next)


@pytest.mark.parametrize(("content_type", "body"), [("application/zip", b""), ("text/html", b"<h1>Bad gateway</h1>")])
def test_an_empty_answer_or_a_web_page_is_no_attachment(content_type: str, body: bytes) -> None:
    """A gateway's page under a 200 is asked for again, not kept as a document."""
    with pytest.raises(BrokenAnswer):
        interpret(call(EXPORT, "attachments"), Answer(200, {"content-type": content_type}, body))


def test_a_content_type_decides_for_attachments_alone() -> None:
    """Elsewhere JSON is expected, whatever it is called."""
    assert 1 == len(interpret(call(), ok('[{"id_transaction":"t"}]', "text/plain")).records)


# ── anything at all ───────────────────────────────────────────────────────────────────────────────────────────────

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id_transaction", "is_deleted", "x"]), inner)
    ),
    max_leaves=10,
)
BODIES = (
    st.binary()
    | st.binary().map(lambda row: ok("[").body[:-1] + row + b"]}")
    | VALUES.map(lambda value: ok(msgspec.json.encode(value).decode()).body)
)
# Numbers as text: digits that no binary float takes must not fail the test's own reading.
EXACT = msgspec.json.Decoder(float_hook=str)


@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["application/json", "text/xml", ""]),
    BODIES,
    st.sampled_from(["/v1/x", "/v1/x?limit=1&skip=1"]),
)
def test_any_answer_is_interpreted_or_refused(purpose: str, content_type: str, body: bytes, path: str) -> None:
    """Whatever comes back: records with plain ids and readable data, or an AnswerError."""
    asked = call(path, purpose, last=True)
    try:
        outcome = interpret(asked, Answer(200, {"content-type": content_type}, body))
    except AnswerError:
        return
    for record in outcome.records:
        assert record.external_id.isascii()
        assert record.external_id.isprintable()
        assert isinstance(EXACT.decode(record.data or ""), dict)
