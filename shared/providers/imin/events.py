"""What imin sends: seed 000 ("Request Body"). Unknown members are ignored."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.providers.interface import Delivery
from shared.providers.json_text import read_delivery


_DOCUMENTED_TYPE = "CustomerAccount"


def _names(value: Any) -> list[str]:
    """JSON-LD allows one name or a list of them; a type is for people only and never makes a body unreadable."""
    listed = value if isinstance(value, list) else [value]
    return [name for name in listed if isinstance(name, str) and name] or [_DOCUMENTED_TYPE]


class IminEvent(BaseModel):
    """Something about a customer account changed; what, only the account itself tells."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str = Field(alias="@id")
    """Where the account is read, as the delivery says it: not to be trusted before ``api.path_of_account``."""
    identifier: str
    types: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(alias="@type", default=(_DOCUMENTED_TYPE,))


def read(delivery: Delivery) -> IminEvent:
    """Parse a body. Raises Unreadable: ``empty``, ``not-json`` or ``wrong-shape``."""
    return read_delivery(delivery.body, IminEvent)


def identity(event: IminEvent) -> str | None:
    """A delivery of imin carries nothing that tells it from the next one (seed 000): every one is followed up."""
    del event
    return None
