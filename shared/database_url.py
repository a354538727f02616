"""What PENSTOCK_DATABASE_URL says beside where Postgres is: whether the way leads through pgbouncer."""

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


OPTION: Final = "pgbouncer"
_SAYS: Final = {"true": True, "false": False}


def goes_through_pgbouncer(url: str) -> bool:
    """Whether the URL says so, by ``?pgbouncer=true``. Raises ValueError for a value that says neither."""
    said = dict(parse_qsl(urlsplit(url).query)).get(OPTION, "false")
    if said not in _SAYS:
        raise ValueError(
            f"{OPTION}={said}: write {OPTION}=true where the URL leads through pgbouncer, else leave it out"
        )
    return _SAYS[said]


def without_our_option(url: str) -> str:
    """The URL for a driver, which would take the option for one of Postgres."""
    parts = urlsplit(url)
    if OPTION not in parts.query:
        return url
    kept = [(name, text) for name, text in parse_qsl(parts.query, keep_blank_values=True) if name != OPTION]
    return urlunsplit(parts._replace(query=urlencode(kept)))
