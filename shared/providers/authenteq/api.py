"""Authenteq's export API: where a result is read again, and the client's credentials."""

from base64 import b64encode
from typing import Final
from urllib.parse import quote
from uuid import UUID

from shared.providers.authenteq.settings import AuthenteqAccount
from shared.providers.interface import Limit, Probe, Refusal


PROBE: Final = Probe(
    "GET", f"/export/verification-result-as-json?verificationId={UUID(int=0)}", frozenset({200, 400, 404})
)
"""No such verification exists: who is told so has been let in."""

LIMIT: Limit | None = None
"""Authenteq publishes no limit (README.md, "Limits"); ``budget`` in the account's settings sets one."""


_FORBIDDEN: Final = 403


def deactivated(status: int, said: str) -> Refusal | None:
    """What a 403 means that says ``ACCOUNT_DEACTIVATED`` (README.md, "Quirks"): the client. None for any other."""
    if status != _FORBIDDEN or "ACCOUNT_DEACTIVATED" not in said:
        return None
    return Refusal("account", "account-refused", "Authenteq has deactivated this client")


def path_of_result(identifier: str) -> str:
    """The export of one verification as JSON (README.md, "Follow-up")."""
    return f"/export/verification-result-as-json?verificationId={quote(identifier, safe='')}"


def credentials(account: AuthenteqAccount) -> dict[str, str]:
    """Basic authentication with the client id and the newest secret (README.md, "Follow-up")."""
    pair = f"{account.client_id.get_secret_value()}:{account.client_secrets[0].get_secret_value()}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
