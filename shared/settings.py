"""Where Penstock's settings come from: the environment, read once in each composition root and passed down."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from shared.errors import SettingsError


Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """The environment, one page. Ports of 0 take any free port."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    # ── files ────────────────────────────────────────────────────────────────
    config: Path = Path("penstock.toml")
    data_dir: Path = Path(".penstock")

    # ── stores: unset means the embedded default of `penstock up` ─────────────
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    blob_url: str | None = None

    # ── secrets ──────────────────────────────────────────────────────────────
    encryption_keys: tuple[SecretStr, ...] = ()

    # ── network ──────────────────────────────────────────────────────────────
    host: str = "127.0.0.1"
    ingress_port: Port = 8000
    metrics_port: Port = 9100
    console_port: Port = 8080
    flower_port: Port = 5555
    flower_password: SecretStr | None = None
    console_password: SecretStr | None = None
    trusted_proxies: tuple[str, ...] = ()

    # ── logs ─────────────────────────────────────────────────────────────────
    log_level: str = "INFO"
    log_format: str = "auto"
    """``json``, ``console``, or ``auto``: console on a terminal, JSON elsewhere."""

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """The settings of this process. Raises SettingsError with a sentence that names the variable."""
        env = os.environ if environment is None else environment
        values: dict[str, object] = {
            name: env[key] for name in cls.model_fields if (key := f"PENSTOCK_{name.upper()}") in env and env[key]
        }
        for several in ("encryption_keys", "trusted_proxies"):
            if isinstance(text := values.get(several), str):
                values[several] = tuple(part.strip() for part in text.split(",") if part.strip())
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            variable = f"PENSTOCK_{str(first['loc'][0]).upper()}"
            raise SettingsError(f"{variable}: {first['msg']}") from None

    @property
    def data(self) -> Path:
        """The data directory as an absolute path."""
        return self.data_dir.absolute()

    @property
    def blobs(self) -> str:
        """The blob store's URL: a folder in the data directory unless one is set."""
        return self.blob_url or (self.data / "blobs").as_uri()


def without_password(url: str) -> str:
    """A store's URL fit to be shown."""
    return re.sub(r"(?<=://)([^/@]*?)(:[^/@]*)?@", r"\1@", url)
