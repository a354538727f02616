"""Authenteq's side of the world: passed verifications with their images."""

import base64
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from ops.lab.happening import Happening, unknown_event, unknown_thing
from ops.lab.seeded import hexadecimal, identifier, number, pick


_VERIFICATIONS_KEPT = 20_000
_JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
_JPEG_END = b"\xff\xd9"
# One set of images may be several megabytes; 16 KiB each keeps the demo light (sizes: unknown, providers.md 4.2).
IMAGE_BYTES = 16 * 1024


class AuthenteqWorld:
    """The verifications of one client; images are made anew from the seed whenever they are asked for."""

    def __init__(self, account: str, seed: int) -> None:
        self._account = account
        self._seed = seed
        self._results: OrderedDict[str, tuple[dict[str, Any], Mapping[str, int]]] = OrderedDict()
        self._happenings = 0

    def events(self) -> Sequence[str]:
        """Authenteq sends one kind of webhook."""
        return ("verification",)

    def happen(self, event: str, options: Mapping[str, Any]) -> Happening:
        """A user passes the verification.

        Options: ``document_type`` (PP, DL or NID), ``documents`` (1 to 3), ``address_proof`` (bool),
        ``image_bytes`` (size of each image), ``id`` (instead of a new one).
        """
        if event != "verification":
            raise unknown_event("authenteq", event, self.events())
        self._happenings += 1
        which = str(options.get("id") or identifier(self._seed, self._account, "verification", self._happenings))
        document_type = str(options.get("document_type") or pick(("PP", "DL", "NID"), self._seed, which))
        documents = int(options.get("documents") or 1)
        result: dict[str, Any] = {
            "id": which,
            "status": "PASSED",
            "platform": "WEB",
            **_times(self._happenings),
            "documentData": _document(which, document_type),
            "nfcVerified": False,
        }
        for extra in range(2, documents + 1):
            result[f"documentData{extra}"] = _document(f"{which}-{extra}", "NID")
        size = int(options.get("image_bytes") or IMAGE_BYTES)
        parts = dict.fromkeys(_parts(document_type, documents, proof=bool(options.get("address_proof"))), size)
        self._results[which] = (result, parts)
        while len(self._results) > _VERIFICATIONS_KEPT:
            self._results.popitem(last=False)
        images = {part: self.image(which, part, size) for part, size in parts.items()}
        return Happening("authenteq", self._account, event, result, identity=which, images=images)

    def image(self, verification: str, part: str, size: int) -> bytes:
        """The bytes of one image: a JPEG's head and end around seeded noise."""
        block = bytes.fromhex(hexadecimal(self._seed, verification, part, digits=128))
        filling = max(0, size - len(_JPEG) - len(_JPEG_END))
        return _JPEG + (block * (filling // len(block) + 1))[:filling] + _JPEG_END

    def exported(self, verification: str) -> dict[str, Any] | None:
        """The result with its images in base64, as the export call answers, or None."""
        if verification not in self._results:
            return None
        result, parts = self._results[verification]
        return {
            **result,
            **{
                part: {
                    "contentType": "image/jpeg",
                    "content": base64.b64encode(self.image(verification, part, size)).decode(),
                }
                for part, size in parts.items()
            },
        }

    def thing(self, kind: str, external_id: str) -> bytes | None:
        """``verification`` by its id, without the images, as the delivery's ``result`` part tells it."""
        if kind != "verification" or external_id not in self._results:
            return None
        return orjson.dumps(self._results[external_id][0])

    def change(self, kind: str, external_id: str, changes: Mapping[str, Any]) -> None:
        """Set top-level fields of a result."""
        if kind != "verification" or external_id not in self._results:
            raise unknown_thing(kind, external_id)
        if changes.get("gone"):
            del self._results[external_id]
            return
        result, parts = self._results[external_id]
        self._results[external_id] = ({**result, **changes}, parts)


def _parts(document_type: str, documents: int, *, proof: bool) -> Sequence[str]:
    """The image parts of the seed's table that such a verification has; a passport has no back side."""
    first = ["croppedFrontImage", "croppedBackImage", "faceImage", "livenessFaceImage"]
    if document_type == "PP":
        first.remove("croppedBackImage")
    further = [
        f"{part}{extra}"
        for extra in range(2, documents + 1)
        for part in ("croppedFrontImage", "croppedBackImage", "faceImage")
        if f"{part}{extra}" != "croppedBackImage3"  # the seed's table has no such part
    ]
    return [*first, *further, *(["addressProofDocument"] if proof else [])]


def _times(count: int) -> dict[str, str]:
    ended = datetime(2026, 4, 10, 11, 44, 40, tzinfo=UTC) + timedelta(seconds=97 * count)
    return {
        "startTime": (ended - timedelta(seconds=163)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "endTime": ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _document(which: str, document_type: str) -> dict[str, Any]:
    bits = number("document", which)
    given = pick(("ANA", "BO", "CHLOÉ", "DEV"), bits, "given")
    surname = pick(("FIELD", "MILL", "STONE", "RIVERS"), bits, "surname")
    data: dict[str, Any] = {
        "documentType": document_type,
        "documentNumber": f"X{bits % 10**8:08d}",
        "issuingCountry": "USA",
        "nationality": "USA",
        "surnameAndGivenNames": f"{surname} {given}",
        "surname": surname,
        "givenNames": given,
        "sex": "FMX"[bits % 3],
        "dateOfBirth": f"{1950 + bits % 50}-{1 + bits % 12:02d}-{1 + bits % 28:02d}",
        "dateOfIssue": "2020-01-01",
        "dateOfExpiry": "2030-01-01",
    }
    if document_type == "DL":
        data |= {
            "jurisdiction": "UT",
            "namePrefixes": None,
            "nameSuffixes": "MS",
            "address": "1 MILL RD^LEEDS",
            "licenseClass": "B/C",
            "licenseClassDetails": {"B": {"from": "2020-01-01", "to": "2030-01-01", "notes": None}},
        }
    return data
