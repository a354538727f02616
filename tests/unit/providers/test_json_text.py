"""JSON text: digits kept, and a form that ``jsonb`` takes."""

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.errors import BrokenAnswer, Unreadable
from shared.providers.json_text import as_jsonb, compose, each_as_jsonb, parse, read_delivery


REFUSED = re.compile("[\x00\ud800-\udfff]")
NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?\Z")
LONG_NUMBERS = st.builds("{}e{}".format, NUMBERS.filter(lambda n: "e" not in n.lower()), st.integers(-99_999, 200_000))
SPACE = st.text(" \t\r\n", max_size=3)
AROUND = ("[@]", "[@,1]", "[1,@]", '{"a":@}', '{"a":@,"b":1}', '{"b":[true,@]}', '{"b":{"a":@}}')
TEXTS = st.text(st.characters(codec=None) | st.sampled_from('\x00\ud800\udc00\\"u0'))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


def exactly(text: str) -> Any:
    """The value of JSON text by the standard library, numbers as decimals."""
    return json.JSONDecoder(parse_float=Decimal, parse_int=Decimal).decode(text)


def as_jsonb_holds_it(value: Any) -> Any:
    """What ``jsonb`` may hold of a value: no NUL and no lone surrogate, at any depth."""
    match value:
        case str():
            return REFUSED.sub("\ufffd", value)
        case list():
            return [as_jsonb_holds_it(item) for item in value]
        case dict():
            return {as_jsonb_holds_it(key): as_jsonb_holds_it(item) for key, item in value.items()}
    return value


class TestAsJsonb:
    """The stated forms, and nothing else changed."""

    @given(VALUES)
    def test_a_value_is_kept_but_for_what_jsonb_refuses(self, value: Any) -> None:
        """Escaped JSON of any value means the same afterwards, with each NUL and lone surrogate replaced."""
        text = json.dumps([value])
        assert as_jsonb(text.encode()) == as_jsonb(as_jsonb(text.encode()).encode())
        assert as_jsonb_holds_it(json.JSONDecoder().decode(text)) == json.JSONDecoder().decode(as_jsonb(text.encode()))

    @given(VALUES)
    def test_the_text_is_fit_for_utf_8(self, value: Any) -> None:
        """No surrogate and no NUL is left in any decoded string."""
        text = json.dumps(json.JSONDecoder().decode(as_jsonb(json.dumps([value]).encode())), ensure_ascii=False)
        assert "\\u0000" not in text.replace("\\\\", "")
        text.encode()

    @given(st.lists(NUMBERS))
    def test_numbers_keep_every_digit(self, numbers: list[str]) -> None:
        """A list of numbers comes out character by character as it went in."""
        text = f"[{', '.join(numbers)}]"
        assert text == as_jsonb(text.encode())

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            (r'"a\u0000b"', r'"a\ufffdb"'),
            (r'"\\u0000"', r'"\\u0000"'),
            (r'"\\\u0000"', r'"\\\ufffd"'),
            (r'"\ud800"', r'"\ufffd"'),
            (r'"\uDC00"', r'"\ufffd"'),
            (r'"\ud83d\ude00"', r'"\ud83d\ude00"'),
            (r'"\ud83d\ud83d\ude00"', r'"\ufffd\ud83d\ude00"'),
            (r'"\ud83d\\ude00"', r'"\ufffd\\ude00"'),
            (r'"\ude00\ud83d"', r'"\ufffd\ufffd"'),
            (r'"\u00e4\n"', r'"\u00e4\n"'),
            (r'{"\u0000": 1.10}', r'{"\ufffd": 1.10}'),
        ],
    )
    def test_escapes_that_jsonb_refuses_become_the_replacement_character(self, sent: str, kept: str) -> None:
        """Escapes are read as JSON reads them, so an escaped backslash before ``u0000`` is only text."""
        assert kept == as_jsonb(sent.encode())

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            ("[1e131071]", "[1e131071]"),
            ("[1e131072]", '["1e131072"]'),
            ("[1e-16383]", "[1e-16383]"),
            ('{"a":-1.5E-16384,"b":"1e999999"}', '{"a":"-1.5E-16384","b":"1e999999"}'),
            ("1e99999999999999999999999", '"1e99999999999999999999999"'),
            ("[" + "1" * 131_073 + "]", '["' + "1" * 131_073 + '"]'),
            ('["5e793889ea4c", "\\" 1e99999"]', '["5e793889ea4c", "\\" 1e99999"]'),
        ],
    )
    def test_a_number_beyond_numeric_becomes_a_string_of_its_digits(self, sent: str, kept: str) -> None:
        """The bounds are those of Postgres' ``numeric``; strings that look like numbers stay as they are."""
        assert kept == as_jsonb(sent.encode())

    @given(SPACE, SPACE, st.sampled_from(["1e131072", "-1.5E-16384", "12.25e+999999"]), st.sampled_from(AROUND))
    def test_such_a_number_is_found_wherever_it_stands(self, before: str, after: str, number: str, around: str) -> None:
        """In an object or an array, first or last, with whatever white space JSON allows around it."""
        sent, kept = (around.replace("@", f"{before}{value}{after}") for value in (number, f'"{number}"'))
        assert kept == as_jsonb(sent.encode())

    def test_text_that_is_not_utf_8_is_a_broken_answer(self) -> None:
        """Invalid UTF-8 cannot be kept as text: the answer is asked for again."""
        with pytest.raises(BrokenAnswer):
            as_jsonb(b'{"a": "\xff"}')


class TestEachAsJsonb:
    """The rows of a page are put into the same form as one by one."""

    @given(st.lists(st.one_of(VALUES.map(json.dumps), LONG_NUMBERS.map("[{}]".format))))
    def test_rows_are_what_they_are_one_by_one(self, rows: list[str]) -> None:
        """Whatever one of them holds, and whatever that means for the look at the whole."""
        body = f"[{', '.join(rows)}]".encode()
        values = parse(body, list[msgspec.Raw])
        assert [as_jsonb(value) for value in values] == each_as_jsonb(body, values)

    def test_a_page_that_is_not_utf_8_is_a_broken_answer(self) -> None:
        """Invalid UTF-8 cannot be kept as text: the page is asked for again."""
        with pytest.raises(BrokenAnswer):
            each_as_jsonb(b'[{"a": "\xff"}]', [msgspec.Raw(b'{"a": "\xff"}')])


class TestParse:
    """Reading answers."""

    def test_parts_that_only_travel_keep_their_text(self) -> None:
        """A raw member is the slice that was sent."""
        members = parse(b'{"amount": 1234567890.10, "id": "a"}', dict[str, msgspec.Raw])
        assert '{"amount":1234567890.10,"note":"x"}' == compose({"amount": members["amount"], "note": "x"})

    def test_lone_surrogates_do_not_fail_a_page(self) -> None:
        """They are replaced before the parser, which refuses them, sees them."""
        assert [{"a": "\ufffd"}, 1] == parse(rb'[{"a": "\ud800"}, 1]', list[Any])

    @pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"a": 1}x', b"[1,]", b"NaN", b'["\xff"]', b"[" * 99_999])
    def test_what_is_not_json_is_a_broken_answer(self, body: bytes) -> None:
        """Cut off, HTML, trailing characters, bad UTF-8, endless nesting: all are asked for again."""
        with pytest.raises(BrokenAnswer):
            parse(body, list[Any])

    def test_another_shape_is_a_broken_answer(self) -> None:
        """JSON of the wrong type is asked for again too."""
        with pytest.raises(BrokenAnswer, match="wrong shape"):
            parse(b'{"a": 1}', list[Any])

    def test_bytes_that_are_not_utf_8_do_not_slip_through_composing(self) -> None:
        """A raw part is not looked into by the parser; composing it finds what is wrong."""
        with pytest.raises(BrokenAnswer):
            compose({"a": parse(b'"\xff"', msgspec.Raw)})


class Sample(BaseModel):
    """A delivery with one needed field."""

    id: str


class TestReadDelivery:
    """Reasons to park a body."""

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "empty"),
            (b" \r\n", "empty"),
            (b"id=1", "not-json"),
            (b'{"id": "a"', "not-json"),
            (b'{"id": "\xff"}', "not-json"),
            (b'{"id": NaN}', "not-json"),
            (b"[" * 99_999, "not-json"),
            (b"[]", "wrong-shape"),
            (b"null", "wrong-shape"),
            (b'{"id": 7}', "wrong-shape"),
            (b'{"id": null}', "wrong-shape"),
        ],
    )
    def test_a_body_that_cannot_be_read_names_its_reason(self, body: bytes, reason: str) -> None:
        """Empty, not JSON and of the wrong shape are told apart."""
        with pytest.raises(Unreadable) as caught:
            read_delivery(body, Sample)
        assert reason == caught.value.reason

    def test_the_sentence_names_the_field_and_never_its_value(self) -> None:
        """A body may hold personal data; the reason is shown to operators."""
        with pytest.raises(Unreadable) as caught:
            read_delivery(b'{"id": 190102}', Sample)
        assert caught.value.detail.startswith("id: ")
        assert "190102" not in caught.value.detail

    def test_odd_values_in_unknown_fields_do_not_matter(self) -> None:
        """Numbers out of every range and lone surrogates in fields that nobody reads are ignored."""
        body = rb'{"id": "a", "x": 1e999999, "y": "\ud800\u0000", "z": ' + b"1" * 4000 + b"}"
        assert Sample(id="a") == read_delivery(body, Sample)
