"""How every call of ours names itself; a module of its own, so that nobody loads an HTTP client for it."""

from typing import Final


USER_AGENT: Final = "Penstock/0.1 (webhook follow-up)"
