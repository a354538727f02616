"""How Magicline's Open API is called: credentials and limits."""

from typing import Final

from shared.providers.interface import Call, Limit, Probe, Refusal
from shared.providers.magicline.event_types import READS
from shared.providers.magicline.settings import MagiclineAccount


PROBE: Final = Probe("HEAD", "/v1/studios/information")
"""HEAD on any endpoint only checks the key: 200 or 401 [api, general information]."""

FORBIDDEN: Final = 403

# "1000 requests/minute", counted per endpoint; once over, every request of the following minute is refused, and no
# Retry-After is documented (general information of the Open API).
_CALLS = 1000
_SECONDS = 60.0


def credentials(account: MagiclineAccount) -> dict[str, str]:
    """The studio's own key; another one than the key of its deliveries."""
    return {"x-api-key": account.api_key.get_secret_value()}


def limit(call: Call) -> Limit:
    """The published limit of the call's endpoint."""
    return Limit(READS[call.purpose].endpoint, _CALLS, _SECONDS, penalty_seconds=_SECONDS)


def missing_scope(call: Call) -> Refusal:
    """What a 403 means: each endpoint has a scope of its own, and the key does not have this one [general; api].

    No source says what is answered for a customer whose access was disabled: the sentence holds for that as well.
    """
    read = READS[call.purpose]
    detail = (
        f"{read.endpoint} needs the scope {read.scope}, which the studio has not been given, or this may not be read by"
        " anybody any more; the API key itself is not refused"
    )
    return Refusal("one", "missing-scope", detail)
