r"""JSON as text: read without losing a digit, and put into a form that Postgres ``jsonb`` takes.

Numbers never pass through a binary float: parts that only travel are ``msgspec.Raw`` slices of what was sent.
``jsonb`` refuses three things that JSON allows. Each has a stated form, so that one odd value never fails a page:

- the escape ``\u0000`` and a lone surrogate such as ``\ud800`` become ``\ufffd`` (the replacement character);
- a number outside the range of ``numeric`` (131,072 digits before the point, 16,383 after it) becomes a string of
  its own digits.

A byte order mark in front is passed over, as RFC 8259, 8.1 lets a reader do; what was sent is kept with it. JSON is
UTF-8 there: what is in UTF-16 or another encoding is no JSON.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from shared.errors import BrokenAnswer, Unreadable


T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

_BOM = b"\xef\xbb\xbf"

# Bounds of Postgres' numeric: https://www.postgresql.org/docs/current/datatype-numeric.html
_DIGITS_BEFORE_POINT = 131_072
_DIGITS_AFTER_POINT = 16_383

_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<refused>\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2}))"
    rb"|\\."  # any other escape is stepped over whole: the text \\u0000 is a backslash and five letters
)
# A quick look before the exact one, at a tenth of its cost: without the other parts of numbers, and with whatever may
# stand around a number made alike, a number with an exponent is ",e,". So may be a word; then the exact look decides.
_PARTS_OF_NUMBERS = b"0123456789.+-"
_AROUND_NUMBERS = bytes.maketrans(b"E[]}: \t\n\r", b"e,,,,,,,,")
_MAYBE_EXPONENT = b",e,"
_SUSPECT_NUMBER = re.compile(r"[\s:,\[]-?\d[\d.]*[eE][+-]?\d{4}")
_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]++|\\.)*+"|-?\d[\d.]*(?:[eE][+-]?\d+)?')


def without_bom(body: bytes) -> bytes:
    """The body without a byte order mark in front; not copied where there is none."""
    return body.removeprefix(_BOM)


def parse(body: bytes, kind: type[T]) -> T:
    """Read JSON as ``kind``, with ``msgspec.Raw`` for what is only passed on. Raises BrokenAnswer."""
    try:
        return msgspec.json.decode(_with_escapes_that_jsonb_takes(without_bom(body)), type=kind)
    except msgspec.ValidationError as error:
        raise BrokenAnswer(f"the answer has the wrong shape: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BrokenAnswer("the answer is not JSON, or cut off") from None
    except RecursionError:
        raise BrokenAnswer("the answer is nested too deeply") from None


def as_jsonb(raw: msgspec.Raw | bytes) -> str:
    """The text of one valid JSON value as ``jsonb`` takes it, every digit kept. Raises BrokenAnswer if not UTF-8."""
    body = _with_escapes_that_jsonb_takes(without_bom(bytes(raw)))
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise BrokenAnswer("the answer is not UTF-8") from None
    has_suspect_number = _may_have_exponent(body) and _SUSPECT_NUMBER.search(text)
    if has_suspect_number or len(text) > _DIGITS_AFTER_POINT or not text.startswith(("{", "[")):
        return _STRING_OR_NUMBER.sub(_as_numeric_or_string, text)
    return text


def each_as_jsonb(body: bytes, values: Sequence[msgspec.Raw]) -> list[str]:
    """The values of one body, such as a page's rows, as ``as_jsonb`` gives them: it is looked through once for all."""
    if not _SUSPECT_ESCAPE.search(body) and not _may_have_exponent(body):
        try:
            texts = [str(value, "utf-8") for value in values]
        except UnicodeDecodeError:
            raise BrokenAnswer("the answer is not UTF-8") from None
        if max(map(len, texts), default=0) <= _DIGITS_AFTER_POINT:
            return texts
    return [as_jsonb(value) for value in values]


def compose(members: Mapping[str, Any]) -> str:
    """An object as ``jsonb`` takes it; a ``msgspec.Raw`` member keeps its digits. Raises BrokenAnswer if not UTF-8."""
    return as_jsonb(msgspec.json.encode(members))


def read_delivery(body: bytes, model: type[ModelT]) -> ModelT:
    """A delivery's JSON body as ``model``. Raises Unreadable: ``empty``, ``not-json`` or ``wrong-shape``."""
    if not without_bom(body).strip():
        raise Unreadable("empty", "the body is empty")
    try:
        parse(body, msgspec.Raw)
        text = as_jsonb(body)
    except BrokenAnswer:
        raise Unreadable("not-json", "the body is not JSON, or cut off") from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise Unreadable("wrong-shape", _sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """Which field is wrong, and how; never its value, which may be personal."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return f"{where}: {first['msg']}"


def _with_escapes_that_jsonb_takes(body: bytes) -> bytes:
    if not _SUSPECT_ESCAPE.search(body):
        return body
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match["refused"] else match[0], body)


def _may_have_exponent(body: bytes) -> bool:
    return _MAYBE_EXPONENT in body.translate(_AROUND_NUMBERS, _PARTS_OF_NUMBERS)


def _as_numeric_or_string(match: re.Match[str]) -> str:
    token = match[0]
    if token.startswith('"') or _fits_numeric(token):
        return token
    return f'"{token}"'


def _fits_numeric(token: str) -> bool:
    try:
        number = Decimal(token)
    except InvalidOperation:
        return False
    exponent = number.as_tuple().exponent
    return number.adjusted() < _DIGITS_BEFORE_POINT and isinstance(exponent, int) and -exponent <= _DIGITS_AFTER_POINT
