"""Variables of the environment that are meant for other programs and that our libraries would read: what is ours wins.

Three ways, by what a variable could do. **Withheld**: a library reads it while it is loaded, so it is taken out before;
no application's code has a use for it in our processes. **Ignored**: we tell the library ourselves what it would
otherwise look up; the variable stays where it is, for an application's handlers may be meant. **Heeded**: it is the way
to set something that Penstock has no setting for. Names are told of at start and by `penstock check`, values never.
"""

import os
import re
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple


Treatment = Literal["withheld", "ignored", "heeded"]

OF_KUBERNETES: Final = re.compile(r"(?:tcp|udp|sctp)://[^/]+:\d+")
"""The value that Kubernetes gives ``<SERVICE>_PORT``, in every container beside a Service of that name."""


class Stranger(NamedTuple):
    """Some variables and what is done about them."""

    names: re.Pattern[str]
    treatment: Treatment
    sentence: str


class Told(NamedTuple):
    """Those that are set here, of one row of the table."""

    names: Sequence[str]
    treatment: Treatment
    sentence: str


def _row(treatment: Treatment, names: str, sentence: str) -> Stranger:
    return Stranger(re.compile(names), treatment, sentence)


TABLE: Final = (
    # celery/worker/state.py, celery/worker/autoscale.py, kombu/serialization.py and others read these when loaded;
    # REMAP_SIGTERM makes of an orderly end a cold one.
    _row(
        "withheld",
        r"REMAP_SIGTERM|CELERY_WORKER_(REVOKES_MAX|SUCCESSFUL_MAX|REVOKE_EXPIRES|SUCCESSFUL_EXPIRES)"
        r"|CELERY_(TRACE_APP|CUSTOM_WORKER_POOL|BENCH|BENCH_EVERY|RDBSIG|RDB_HOST|RDB_PORT)|AUTOSCALE_KEEPALIVE"
        r"|C_(STRICT_APP|WARN_APP|IMPDEBUG|REMDEBUG|BENCH|BENCH_EVERY|WNOCONF|FAKEFORK)|EVENTLET_NOBLOCK"
        r"|FORKED_BY_MULTIPROCESSING|MP_MAIN_FILE|MP_LOG|TIMER_DEBUG|USE_FAST_LOCALS|NOSETPS"
        r"|KOMBU_(LOG_DEBUG|LOG_CONNECTION|LOG_CHANNEL|DEBUG_POOL|DISABLE_LIMIT_PROTECTION)|PICKLE_PROTOCOL"
        r"|DISABLE_TRACEBACKS",
        "Celery's own knobs are set by Penstock",
    ),
    _row(
        "withheld",
        r"SSLKEYLOGFILE",
        "the keys of connections are never written down",
    ),
    _row("withheld", r"AIOHTTP_NO_EXTENSIONS|TORNADO_(NO_)?EXTENSION", "libraries run with their fast parts"),
    _row(
        "ignored",
        r"CELERY_(BROKER_URL|BROKER_READ_URL|BROKER_WRITE_URL|RESULT_BACKEND|LOADER|CONFIG_MODULE)"
        r"|DJANGO_SETTINGS_MODULE",
        "another Celery application's: Penstock's broker is PENSTOCK_REDIS_URL",
    ),
    _row(
        "ignored",
        r"PG(HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|SERVICE|SERVICEFILE|OPTIONS|APPNAME|SSL\w*"
        r"|REQUIRE\w*|CHANNELBINDING|TARGETSESSIONATTRS|LOADBALANCEHOSTS|CONNECT_TIMEOUT|CLIENTENCODING|DATESTYLE|TZ"
        r"|GEQO|GSS\w*|KRBSRVNAME|SYSCONFDIR|LOCALEDIR|MINPROTOCOLVERSION|MAXPROTOCOLVERSION|DATA)",
        "libpq's: Penstock's Postgres is PENSTOCK_DATABASE_URL and its parameters",
    ),
    _row(
        "ignored",
        r"FLOWER_(PORT|ADDRESS|UNIX_SOCKET|BASIC_AUTH|AUTH|AUTH_PROVIDER|OAUTH2_\w+|GITLAB_\w+|UNAUTHENTICATED_API"
        r"|BROKER_API|READ_ONLY|DEBUG|DB|PERSISTENT|STATE_SAVE_INTERVAL|CONF|CERTFILE|KEYFILE|CA_CERTS|ENABLE_EVENTS"
        r"|FORMAT_TASK)|FLOWER_(PORT_\w+|SERVICE_\w+)",
        "flower's place, password and rights are Penstock's: PENSTOCK_FLOWER_PORT, PENSTOCK_FLOWER_PASSWORD",
    ),
    _row(
        "ignored",
        r"WEB_CONCURRENCY|FORWARDED_ALLOW_IPS|UVICORN_\w+",
        "uvicorn's: see `penstock up --ingress` and PENSTOCK_TRUSTED_PROXIES",
    ),
    _row(
        "ignored",
        r"(?i:http_proxy|https_proxy|all_proxy|no_proxy)|NETRC|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE",
        "calls to providers and messages to handlers go out directly; a blob store at S3 and the sending of traces go"
        " through the proxy",
    ),
    _row(
        "ignored",
        r"PYTHONWARNINGS",
        "warnings of libraries are lines of the log, not the end of a process",
    ),
    _row("heeded", r"AWS_\w+", "a blob store at s3:// is reached with it"),
    _row("heeded", r"OTEL_\w+", "traces are sent as it says, once an endpoint is named"),
    _row("heeded", r"SSL_CERT_(FILE|DIR)", "who vouches for handlers, and for Postgres with sslrootcert=system"),
    _row(
        "heeded",
        r"FLOWER_(MAX_WORKERS|MAX_TASKS|INSPECT_TIMEOUT|AUTO_REFRESH|PURGE_OFFLINE_WORKERS|NATURAL_TIME|TASKS_COLUMNS"
        r"|TASK_RUNTIME_METRIC_BUCKETS|URL_PREFIX|COOKIE_SECRET|XHEADERS)",
        "flower shows its pages as it says",
    ),
)

_METRICS: Final = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
_METRICS_SENTENCE: Final = "another application's folder of metrics; each process of Penstock has its own page"

_withheld: dict[str, None] = {}


def withhold(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take out what a library would read while it is loaded. To be called before any is."""
    for stranger in TABLE:
        if stranger.treatment == "withheld":
            for name in list(filter(stranger.names.fullmatch, environment)):
                del environment[name]
                _withheld[name] = None
    # `penstock up` hands its children one in the data directory.
    ours = str(Path(environment.get("PENSTOCK_DATA_DIR") or ".penstock").absolute() / "run" / "metrics")
    for name in _METRICS:
        if environment.get(name, ours) != ours:
            del environment[name]
            _withheld[name] = None


def told(environment: Mapping[str, str] = os.environ) -> list[Told]:
    """What is set here, withheld, ignored or heeded; a row each."""
    names = [*environment, *_withheld]
    found = [
        Told(sorted(filter(stranger.names.fullmatch, names)), stranger.treatment, stranger.sentence)
        for stranger in TABLE
    ]
    found.append(Told(sorted(_withheld.keys() & set(_METRICS)), "withheld", _METRICS_SENTENCE))
    found.append(Told(_services(environment), "ignored", "Kubernetes' address of a Service, not a port of Penstock's"))
    return [each for each in found if each.names]


def tell() -> None:
    """One line of the log for what is set here. To be called by a process that has set up its logs."""
    import structlog  # noqa: PLC0415 - this module is loaded before any library

    if rows := told():
        structlog.get_logger("penstock.environment").info(
            "variables for other programs are set; `penstock check` says what each does",
            ignored=_names(rows, "withheld", "ignored"),
            heeded=_names(rows, "heeded"),
        )


def summary() -> str:
    """The same as a sentence for a screen; empty where nothing is set."""
    rows = told()
    parts = [
        f"{what} from the environment: {', '.join(names)}."
        for what, names in (("Ignored", _names(rows, "withheld", "ignored")), ("Heeded", _names(rows, "heeded")))
        if names
    ]
    return " ".join([*parts, "`penstock check` says what each does."]) if parts else ""


def _names(rows: Sequence[Told], *treatments: Treatment) -> list[str]:
    return sorted(name for row in rows if row.treatment in treatments for name in row.names)


def _services(environment: Mapping[str, str]) -> list[str]:
    return sorted(
        name
        for name, text in environment.items()
        if name.startswith("PENSTOCK_") and name.endswith("_PORT") and OF_KUBERNETES.fullmatch(text)
    )
