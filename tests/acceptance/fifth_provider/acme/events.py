"""What Acme sends. Unknown members are ignored."""

from pydantic import BaseModel, ConfigDict

from shared.providers.interface import Delivery
from shared.providers.json_text import read_delivery


class AcmeEvent(BaseModel):
    """Something happened to a gadget."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    delivery: str
    type: str
    gadget: int


def read(delivery: Delivery) -> AcmeEvent:
    """Parse a body. Raises Unreadable: ``empty``, ``not-json`` or ``wrong-shape``."""
    return read_delivery(delivery.body, AcmeEvent)
