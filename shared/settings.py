"""Where Penstock's settings come from: the environment, read once in each composition root and passed down."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from shared.database_url import Database
from shared.errors import SettingsError
from shared.redis_url import sentinels_of
from shared.strangers import OF_KUBERNETES


Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """The environment, one page. Ports of 0 take any free port."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    # ── files ────────────────────────────────────────────────────────────────
    config: Path = Path("penstock.toml")
    """The file with the accounts and everything else below."""
    data_dir: Path = Path(".penstock")
    """Where the embedded servers keep their data; also blobs, logs and passwords that were made."""

    # ── stores: unset means the embedded default of `penstock up` ─────────────
    database_url: SecretStr | None = None
    """Postgres 14 or later with the encoding UTF8, as ``postgresql://user:password@host/database`` and with any
    parameter of libpq ([which](../operating.md#the-database-url)). Unset: `penstock up` starts one of its own.

    ``?pgbouncer=true`` where that is a pgbouncer in transaction pooling, as [deploying](../../deploy/README.md) says.
    """
    read_database_url: SecretStr | None = None
    """A streaming replica of that Postgres, from which the console reads; what it changes goes to the primary.

    Unset: the console reads where everything else does.
    """
    redis_url: SecretStr | None = None
    """Redis 6.2 or later, ``maxmemory-policy noeviction``, not in cluster mode, as
    ``redis://:password@host:6379/0``. Unset: `penstock up` starts one of its own.

    With TLS ``rediss://``, and ``?ssl_ca_certs=/path`` for a certificate of your own authority. With Sentinel
    ``redis+sentinel://:password@host:26379,host:26379,host:26379/<service>/<database number>``, or ``rediss+sentinel://``,
    and ``?sentinel_password=...`` if the sentinels ask for one.
    """
    blob_url: str | None = None
    """Large bodies and images: ``file:///absolute/path``, or ``s3://bucket/prefix`` with the ``AWS_...`` variables.

    Unset: the folder ``blobs`` in the data directory.
    """

    # ── secrets ──────────────────────────────────────────────────────────────
    encryption_keys: tuple[SecretStr, ...] = ()
    """The newest first; `penstock keys generate` prints one. Required with a database of your own.

    Unset: one is made and kept in the data directory, with a warning.
    """

    # ── network ──────────────────────────────────────────────────────────────
    host: str = "127.0.0.1"
    """The address that ingress, console, flower and metrics listen on."""
    ingress_port: Port = 8000
    """Where providers deliver."""
    metrics_port: Port = 9100
    """``/metrics`` for Prometheus; keep it from the outside."""
    console_port: Port = 8080
    """The console."""
    flower_port: Port = 5555
    """Flower."""
    flower_password: SecretStr | None = None
    """Flower's password; the user is ``penstock``. Unset: one is made and kept in the data directory."""
    console_password: SecretStr | None = None
    """The console's password for the user ``penstock``, who is an operator.

    Unset, and without ``[[console.users]]``: the console serves this machine alone.
    """
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose ``X-Forwarded-For``, and ``[console] proxy_user_header``, are believed."""

    # ── logs ─────────────────────────────────────────────────────────────────
    log_level: str = "INFO"
    """``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``."""
    log_format: str = "auto"
    """``json``, ``console``, or ``auto``: console on a terminal, JSON elsewhere."""

    @field_validator("database_url", "read_database_url")
    @classmethod
    def _names_a_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url:
            Database.read(url.get_secret_value())
        return url

    @field_validator("redis_url")
    @classmethod
    def _names_a_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url:
            sentinels_of(url.get_secret_value())
        return url

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """The settings of this process. Raises SettingsError with a sentence that names the variable.

        ``PENSTOCK_X_FILE`` names a file that holds the value of ``PENSTOCK_X``, as containers are handed their secrets.
        """
        env = os.environ if environment is None else environment
        values: dict[str, object] = {
            name: text for name in cls.model_fields if (text := _value(env, f"PENSTOCK_{name.upper()}"))
        }
        for several in ("encryption_keys", "trusted_proxies"):
            if isinstance(listed := values.get(several), str):
                values[several] = tuple(part.strip() for part in listed.split(",") if part.strip())
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            variable = f"PENSTOCK_{str(first['loc'][0]).upper()}"
            raise SettingsError(f"{variable}: {first['msg'].removeprefix('Value error, ')}") from None

    @property
    def data(self) -> Path:
        """The data directory as an absolute path."""
        return self.data_dir.absolute()

    @property
    def blobs(self) -> str:
        """The blob store's URL: a folder in the data directory unless one is set."""
        return self.blob_url or (self.data / "blobs").as_uri()


def _value(env: Mapping[str, str], variable: str) -> str:
    """What the variable says, else the file that its ``_FILE`` names. Raises SettingsError."""
    if text := env.get(variable):
        # Beside a Service named penstock-ingress, PENSTOCK_INGRESS_PORT is its address and no port to listen on.
        return "" if variable.endswith("_PORT") and OF_KUBERNETES.fullmatch(text) else text
    if not (path := env.get(f"{variable}_FILE")):
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}_FILE: {path} cannot be read: {error}") from None


_SECRETS: Final = re.compile(r"(?i)([?&][^=&]*(?:password|passwd|secret|token|client_key|server_key)[^=&]*=)[^&#]*")
"""Parameters whose values are nobody's to see: ``password``, ``sslpassword``, ``sentinel_password`` and the like."""


def without_password(url: str) -> str:
    """A store's URL fit to be shown."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "what is no URL"
    place, mark, query = rest.partition("?")
    if "@" not in place and "@" in query:  # a password with a question mark, or what looks like one
        place, mark, query = rest, "", ""
    who, at, where = place.rpartition("@")
    shown = f"{scheme}://{who.partition(':')[0]}{at}{where}{mark}{query}"
    return _SECRETS.sub(r"\1***", shown)
