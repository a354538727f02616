"""Sample deliveries for the accounts of a ``penstock.toml``: with invented ids, or with a running lab's own."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from ops.lab.accounts import Account, from_settings
from ops.lab.deliveries import Delivery, body_of, signed
from ops.lab.happening import LabError
from ops.lab.world import World
from shared.configuration import Configuration
from shared.providers.registry import PROVIDERS


class RunningLab(msgspec.Struct):
    """What ``lab run`` leaves in ``run/lab.json``: where its control API and its providers answer."""

    control: str
    ports: dict[str, int]

    def plays(self, account: Account) -> bool:
        """Whether an account's API is this lab's."""
        port = self.ports.get(account.provider)
        return account.base_url in {f"http://127.0.0.1:{port}", f"http://localhost:{port}"}


def find_lab(url: str, state: Path) -> RunningLab | None:
    """The lab at a control URL, else the one that the state file names, if it answers. Raises LabError for the URL."""
    if url:
        return _asked(url.rstrip("/"))
    try:
        found = msgspec.json.decode(state.read_bytes(), type=RunningLab)
    except (OSError, msgspec.MsgspecError):
        return None
    try:
        return _asked(found.control)
    except LabError:
        return None  # it was killed before it could remove its file


def _asked(control: str) -> RunningLab:
    try:
        answer = httpx.get(f"{control}/ports", timeout=2.0).raise_for_status()
        return RunningLab(control, msgspec.json.decode(answer.content, type=dict[str, int]))
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError) as error:
        raise LabError(f"no lab answers at {control} ({error}); start one with: penstock lab run") from None


def chosen_account(configuration: Configuration, provider: str, name: str, config: Path) -> Account:
    """The account to send as: the named one, else the first. Raises LabError."""
    if provider not in PROVIDERS:
        raise LabError(f"there is no provider {provider!r}; there are {', '.join(PROVIDERS)}")
    accounts = configuration.accounts.get(provider, {})
    if not accounts:
        raise LabError(f"{config} has no account of {provider}; add [[{provider}.accounts]] to it")
    if name and name not in accounts:
        raise LabError(f"{provider} has no account {name!r} in {config}; it has {', '.join(accounts)}")
    return from_settings(provider, accounts[name] if name else next(iter(accounts.values())))


class Samples:
    """Makes deliveries of one account, signed with its keys; at the lab's own accounts its world changes first."""

    def __init__(self, account: Account, lab: RunningLab | None, seed: int) -> None:
        self._account = account
        self._lab = lab if lab and lab.plays(account) else None
        self._world = World(seed, [account], datetime.now(UTC))

    @property
    def world_is_changed(self) -> bool:
        """Whether a running lab's world changes with each sample."""
        return self._lab is not None

    async def next(self, client: httpx.AsyncClient, event: str, options: Mapping[str, Any]) -> Delivery:
        """One more delivery. Raises LabError."""
        if self._lab is None:
            happening = self._world.happen(self._account.provider, event, self._account.name, options)
            return signed(self._account, *body_of(happening))
        asked = {"provider": self._account.provider, "event": event, "account": self._account.name, "options": options}
        try:
            answer = await client.post(f"{self._lab.control}/happen", json=asked)
        except httpx.HTTPError as error:
            raise LabError(f"the lab at {self._lab.control} does not answer: {error}") from None
        told = msgspec.json.decode(answer.content, type=dict[str, Any])
        if answer.is_error:
            raise LabError(told["error"])
        return signed(self._account, base64.b64decode(told["body_base64"]), told["content_type"])
