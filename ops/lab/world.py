"""The lab's whole world: a part for each account, by provider and name."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ops.lab.accounts import Account
from ops.lab.authenteq_world import AuthenteqWorld
from ops.lab.happening import Happening, LabError, Part
from ops.lab.imin_world import IminWorld
from ops.lab.magicline_world import MagiclineWorld
from ops.lab.paybook_webhooks import Webhooks
from ops.lab.paybook_world import PaybookWorld


class World:
    """What the four APIs hold. ``began`` is the time at which it starts: check-ins lie in the weeks before."""

    def __init__(self, seed: int, accounts: Sequence[Account], began: datetime) -> None:
        self.accounts = accounts
        self.imin: dict[str, IminWorld] = {}
        self.magicline: dict[str, MagiclineWorld] = {}
        self.paybook: dict[str, PaybookWorld] = {}
        self.authenteq: dict[str, AuthenteqWorld] = {}
        self.webhooks: dict[str, Webhooks] = {}
        for account in accounts:
            match account.provider:
                case "imin":
                    self.imin[account.name] = IminWorld(account.name, seed, account.base_url)
                case "magicline":
                    self.magicline[account.name] = MagiclineWorld(account.name, seed, began)
                case "paybook":
                    self.paybook[account.name] = PaybookWorld(account.name, seed)
                    self.webhooks[account.name] = Webhooks(seed, account.name)
                case _:
                    self.authenteq[account.name] = AuthenteqWorld(account.name, seed)

    def part(self, provider: str, account: str = "") -> Part:
        """The part of one account; without a name the provider's first. Raises LabError."""
        parts: Mapping[str, Mapping[str, Part]] = {
            "imin": self.imin,
            "magicline": self.magicline,
            "paybook": self.paybook,
            "authenteq": self.authenteq,
        }
        if provider not in parts:
            raise LabError(f"there is no provider {provider!r}; there are {', '.join(parts)}")
        found = parts[provider]
        if account not in found and account:
            raise LabError(f"{provider} has no account {account!r} here; it has {', '.join(found) or 'none'}")
        return found[account] if account else next(iter(found.values()))

    def account(self, provider: str, name: str = "") -> Account:
        """The keys of one account; without a name the provider's first. Raises LabError."""
        for account in self.accounts:
            if account.provider == provider and name in {"", account.name}:
                return account
        raise LabError(f"{provider} has no account {name!r} here")

    def happen(self, provider: str, event: str, account: str, options: Mapping[str, Any]) -> Happening:
        """Let something happen; without an event the provider's first. Raises LabError."""
        part = self.part(provider, account)
        try:
            return part.happen(event or part.events()[0], options)
        except (TypeError, ValueError) as error:
            raise LabError(f"options of {provider} {event or part.events()[0]}: {error}") from None
