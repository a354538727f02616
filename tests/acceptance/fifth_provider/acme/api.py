"""How Acme's API is called: credentials and limit."""

from shared.providers.acme.settings import AcmeAccount
from shared.providers.interface import Limit


LIMIT = Limit(scope="account", calls=10, seconds=1.0, penalty_seconds=1.0)


def credentials(account: AcmeAccount) -> dict[str, str]:
    """The shop's own key; another one than the key of its deliveries."""
    return {"Authorization": f"Bearer {account.api_key.get_secret_value()}"}
