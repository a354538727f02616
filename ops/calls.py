"""The URLs of calls, as people see them."""

from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.settings import Settings
from shared.store.reading.events import UrlOf


def urls_of_calls(settings: Settings) -> UrlOf:
    """The account's base URL and the path; the path alone for an account that is gone or settings that are broken."""
    try:
        configuration = read_configuration(settings.config)
    except SettingsError:
        return lambda _provider, _account, path: path

    def url_of(provider: str, account: str, path: str) -> str:
        known = configuration.account(provider, account)
        return f"{known.base_url}{path}" if known else path

    return url_of
