"""What Authenteq sends: seed 004 ("Request Body"), a multipart body of a ``result`` and up to eleven images."""

import re
from binascii import Error as BadBase64
from binascii import a2b_base64, a2b_qp
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.errors import Unreadable
from shared.providers.authenteq.settings import AuthenteqAccount
from shared.providers.interface import Delivery
from shared.providers.json_text import read_delivery


_REQUIRED = ("croppedFrontImage", "croppedBackImage", "faceImage", "livenessFaceImage")
IMAGES = frozenset(
    {
        *_REQUIRED,
        "croppedFrontImage2",
        "croppedBackImage2",
        "faceImage2",
        "croppedFrontImage3",
        "croppedBackImage3",
        "faceImage3",
        "addressProofDocument",
    }
)
"""The parts of the seed's table that are kept beside ``result``; any other part is ignored."""

_PASSPORT = "PP"
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")


class Result(BaseModel):
    """The ``result`` part, as far as it must be understood."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1, max_length=255)
    document: Any = Field(alias="documentData", default=None)

    @property
    def is_of_passport(self) -> bool:
        """Whether the first scanned document is a passport, which has no back (README.md, "Quirks")."""
        return isinstance(self.document, dict) and self.document.get("documentType") == _PASSPORT


@dataclass(slots=True)
class Part:
    """One part of a multipart body: its headers by lower-case name, and its content, still in its transfer encoding."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    slices: list[memoryview] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name in its Content-Disposition; empty when there is none."""
        _, options = parse_options_header(self.headers.get(b"content-disposition"))
        return options.get(b"name", b"").decode("latin-1")

    @property
    def content_type(self) -> str:
        """The media type without parameters, lower case; ``application/octet-stream`` when none is given."""
        given = self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        return given if _MEDIA_TYPE.fullmatch(given) else "application/octet-stream"

    @property
    def content(self) -> bytes:
        """The bytes, freed of a MIME transfer encoding; as they were sent when that cannot be undone."""
        sent = b"".join(self.slices)
        match self.headers.get(b"content-transfer-encoding", b"").strip().lower():
            case b"base64":
                try:
                    return a2b_base64(sent)
                except BadBase64:
                    return sent
            case b"quoted-printable":
                return a2b_qp(sent)
        return sent


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a verification."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class AuthenteqEvent:
    """A finished verification: its result as the JSON bytes that were sent, and the images that came with it."""

    result: Result
    result_json: bytes
    images: Mapping[str, Image]
    missing_parts: Sequence[str]
    repeated_parts: Sequence[str]


def read(delivery: Delivery, account: AuthenteqAccount) -> AuthenteqEvent:
    """Take the body apart.

    Raises Unreadable: ``empty``, ``wrong-shape``, ``not-json``, ``repeated-part``, and ``missing-part`` for the
    ``result``, or with ``strict_parts`` for a required image.
    """
    if not delivery.body.strip():
        raise Unreadable("empty", "the body is empty")
    parts = [(part.name, part) for part in parts_of(delivery.body, _boundary(delivery.content_type))]
    results = [part for name, part in parts if name == "result"]
    if not results:
        raise Unreadable("missing-part", "there is no part named result")
    if len(results) > 1:
        raise Unreadable("repeated-part", f"there are {len(results)} parts named result")
    result_json = results[0].content
    result = read_delivery(result_json, Result)
    images: dict[str, Image] = {}
    repeated: list[str] = []
    for name, part in parts:
        if name not in IMAGES or not (content := part.content):
            continue
        if name not in images:
            images[name] = Image(content, part.content_type)
        elif name not in repeated:
            repeated.append(name)
    required = [name for name in _REQUIRED if not (name == "croppedBackImage" and result.is_of_passport)]
    missing = [name for name in required if name not in images]
    if missing and account.strict_parts:
        raise Unreadable("missing-part", f"required images are missing: {', '.join(missing)}")
    return AuthenteqEvent(result, result_json, images, missing, repeated)


def identity(event: AuthenteqEvent) -> str:
    """The verification's id: the body itself may differ between two attempts, if only in its boundary."""
    return event.result.id


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """The complete parts, up to where the body is cut off or malformed. Their contents are views of the body."""
    parts: list[Part] = []
    complete: list[Part] = []
    name = bytearray()
    value = bytearray()

    def header_end() -> None:
        parts[-1].headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    begin = max(body.find(b"--" + boundary), 0)  # MIME allows a preamble, which is to be ignored (RFC 2046, 5.1.1)
    with suppress(FormParserError):
        MultipartParser(
            boundary,
            {
                "on_part_begin": lambda: parts.append(Part()),
                "on_header_field": lambda data, start, end: name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": header_end,
                "on_part_data": lambda data, start, end: parts[-1].slices.append(memoryview(data)[start:end]),
                "on_part_end": lambda: complete.append(parts[-1]),
            },
        ).write(body[begin:])
    return complete


def _boundary(content_type: str) -> bytes:
    media_type, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if media_type != b"multipart/form-data" or not boundary:
        raise Unreadable("wrong-shape", "the content type is not multipart/form-data with a boundary")
    return boundary
