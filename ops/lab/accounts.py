"""The accounts that the lab plays: their keys follow from the seed; and the ``penstock.toml`` that fits them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from ops.lab.seeded import hexadecimal
from shared.providers.account import AccountSettings


STUDIOS = ("studio-berlin", "studio-hamburg")


@dataclass(frozen=True, slots=True)
class Account:
    """Both sides' keys of one account.

    ``webhook_key`` is what a delivery proves itself with (Paybook: the path token; Authenteq: the client secret),
    ``api_key`` what an API call does. ``header`` is Paybook's optional custom header with its secret value.
    """

    provider: str
    name: str
    webhook_key: str
    api_key: str
    base_url: str
    client_id: str = ""
    header: tuple[str, str] | None = None
    signature: str = "hmac-sha256"


def lab_accounts(
    seed: int, ports: Mapping[str, int], host: str = "127.0.0.1", studios: int = len(STUDIOS)
) -> Sequence[Account]:
    """One account of each provider (Magicline: so many studios) at the lab's own ports."""
    names = [*STUDIOS, *(f"studio-{number}" for number in range(len(STUDIOS) + 1, studios + 1))][:studios]

    def key(*parts: str) -> str:
        return f"lab-{'-'.join(parts)}-{hexadecimal('key', seed, *parts)}"

    def base(provider: str) -> str:
        return f"http://{host}:{ports[provider]}"

    secret = key("authenteq", "secret")
    return (
        Account("imin", "main", key("imin", "hook"), key("imin", "api"), base("imin")),
        *(Account("magicline", name, key(name, "hook"), key(name, "api"), base("magicline")) for name in names),
        Account(
            "paybook",
            "main",
            key("paybook", "token"),
            key("paybook", "api"),
            base("paybook"),
            header=("X-Hook-Secret", key("paybook", "header")),
        ),
        Account("authenteq", "main", secret, secret, base("authenteq"), client_id=key("authenteq", "client")),
    )


def config_toml(accounts: Sequence[Account], retry: Mapping[str, float] | None = None) -> str:
    """The ``penstock.toml`` with these accounts; ``retry`` adds that section."""
    tables = [_table(account) for account in accounts]
    if retry:
        tables.append("[retry]\n" + "".join(f"{name} = {value}\n" for name, value in retry.items()))
    # nothing real is here: whoever tries it out at this machine may use every button of the console
    tables.append('[console]\nlocal_role = "operator"\n')
    return "# Written by the provider lab; every key here works at the lab only.\n\n" + "\n".join(tables)


def _table(account: Account) -> str:
    lines = [f"[[{account.provider}.accounts]]", f'name = "{account.name}"']
    match account.provider:
        case "paybook":
            lines.append(f'webhook_tokens = ["{account.webhook_key}"]')
            if account.header:
                name, value = account.header
                lines.append(f'webhook_header = {{ name = "{name}", value = "{value}" }}')
            lines.append(f'api_key = "{account.api_key}"')
        case "authenteq":
            lines += [f'client_id = "{account.client_id}"', f'client_secrets = ["{account.webhook_key}"]']
            lines.append(f'signature = "{account.signature}"')
        case _:
            lines += [f'webhook_keys = ["{account.webhook_key}"]', f'api_key = "{account.api_key}"']
    return "\n".join([*lines, f'base_url = "{account.base_url}"', ""])


def from_settings(provider: str, settings: AccountSettings) -> Account:
    """The account of a real ``penstock.toml``, with the newest of its keys."""
    values = settings.model_dump()

    def text(name: str) -> str:
        value = values.get(name, "")
        return _revealed(value[0] if isinstance(value, list | tuple) and value else value)

    header = values.get("webhook_header")
    signature = text("signature")
    secret = text("client_secrets")
    return Account(
        provider=provider,
        name=settings.name,
        webhook_key=text("webhook_keys") or text("webhook_tokens") or secret,
        api_key=text("api_key") or secret,
        base_url=settings.base_url,
        client_id=text("client_id"),
        header=(_revealed(header["name"]), _revealed(header["value"])) if header else None,
        # `auto` is how Penstock reads signatures; a sender has to choose one: the usual meaning of the seed's sentence
        signature="hmac-sha256" if signature in {"", "auto"} else signature,
    )


def _revealed(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
