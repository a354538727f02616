"""The body of a message: a CloudEvents 1.0 envelope in its JSON format, by the CloudEvents library.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from urllib.parse import quote

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from shared.handlers.change import OutgoingChange


CONTENT_TYPE = "application/cloudevents+json"


def wrap(change: OutgoingChange) -> bytes:
    """The envelope of a change; its ``data`` is the change as JSON."""
    envelope = CloudEvent(
        {
            "id": change.id,
            "source": f"/penstock/{change.provider}/{change.account}",
            "type": f"{change.kind}.{change.op}",
            "subject": _subject(change.external_id),
            "time": change.at,
            "datacontenttype": "application/json",
        }
    )
    # The library encodes data by way of binary floats; spliced in as text, numbers keep their digits.
    head = JSONFormat().write(envelope)
    return head[:-1] + b',"data":' + change.as_json() + b"}"


def _subject(external_id: str) -> str:
    """The id where it is printable; an attribute may hold no control characters, which are then percent-encoded."""
    return external_id if external_id.isprintable() else quote(external_id, safe="")
