"""What PENSTOCK_REDIS_URL may say, and what each client makes of it."""

import ssl

import pytest

from shared.broker import broker_of
from shared.errors import SettingsError
from shared.redis_url import sentinels_of
from shared.settings import Settings, without_password


SENTINELS = "redis+sentinel://web:p%40ss@a:26380,[::1],c/main/2?sentinel_password=q%26a&sentinel_username=eye"


def test_sentinels_are_read_with_their_ports_service_database_and_passwords() -> None:
    """A port that is not named is the usual one; escapes in passwords are undone."""
    found = sentinels_of(SENTINELS)

    assert found
    assert (("a", 26380), ("::1", 26379), ("c", 26379)) == found.hosts
    assert ("main", 2, "web", "p@ss") == (found.service, found.db, found.username, found.password)
    assert ("eye", "q&a", None) == (found.sentinel_username, found.sentinel_password, found.tls)


def test_celery_hears_of_every_sentinel() -> None:
    """Each of its URLs says all, since kombu takes everything from the one that it turns to."""
    broker = broker_of(SENTINELS)
    connection = broker.connection({})

    assert [f"sentinel://web:p%40ss@{host}/2" for host in ("a:26380", "[::1]:26379", "c:26379")] == connection.alt
    assert "main" == broker.options["master_name"]
    assert ("eye", "q&a") == tuple(broker.options["sentinel_kwargs"][name] for name in ("username", "password"))
    for url in connection.alt[1:]:
        connection.switch(url)
        assert ("web", "p@ss", "2") == (connection.userid, connection.password, connection.virtual_host)


@pytest.mark.parametrize("url", ["rediss://:secret@redis:6379/0", "rediss+sentinel://:secret@a,b,c/main"])
def test_tls_verifies_unless_told_otherwise(url: str) -> None:
    """Of one server as of a primary and its sentinels."""
    for options, verify in (("", ssl.CERT_REQUIRED), ("?ssl_cert_reqs=none", ssl.CERT_NONE)):
        broker = broker_of(url + options)
        assert broker.tls == {"ssl_cert_reqs": verify}
        if "+" in url:
            assert (True, verify) == tuple(broker.options["sentinel_kwargs"][name] for name in ("ssl", "ssl_cert_reqs"))


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis+sentinel://a,b,c", "write redis\\+sentinel://"),
        ("redis+sentinel://a,b,c/main/first", "write redis\\+sentinel://"),
        ("redis+sentinel://:p@ss@a/main", "%40"),
        ("redis+sentinel://a:port/main", "no sentinel's host and port"),
        ("redis+sentinel://a/main?quorum=2", "quorum is no option"),
        ("rediss+sentinel://a/main?ssl_cert_reqs=maybe", "write required, optional, none"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_the_setting_and_without_the_password(url: str, wrong: str) -> None:
    """At the start of every process, before anything connects."""
    with pytest.raises(SettingsError, match=rf"^PENSTOCK_REDIS_URL: .*{wrong}") as refused:
        Settings.read({"PENSTOCK_REDIS_URL": url})
    assert "p@ss" not in str(refused.value)


def test_no_password_is_shown() -> None:
    """Neither the servers' nor the sentinels'."""
    shown = "redis+sentinel://web@a:26380,[::1],c/main/2?sentinel_password=***&sentinel_username=eye"
    assert shown == without_password(SENTINELS)
