"""Data keys as one process knows them, while looks at Postgres overtake each other."""

import threading
import time

from shared.data_keys import DataKeys


ACCOUNT = ("imin", "main")
OLD, NEW = b"old-key-", b"new-key-"


def test_an_older_look_that_comes_back_last_forgets_nothing_newer() -> None:
    """It was asked before the key was made; the next one knows of it."""
    keys = DataKeys()
    older = time.monotonic()
    newer = older + 0.001
    keys.add(ACCOUNT, NEW, b"n" * 32, newer)
    keys.seen([NEW], [NEW], newer)
    keys.grant(ACCOUNT, NEW, 10)

    keys.seen([], [], older)

    assert (NEW, b"n" * 32) == keys.take(ACCOUNT)
    assert b"n" * 32 == keys.first(ACCOUNT)


def test_a_newer_look_forgets_what_was_destroyed() -> None:
    """Whatever an older one, that comes back after it, still saw."""
    keys = DataKeys()
    keys.add(ACCOUNT, OLD, b"o" * 32, 1.0)
    keys.seen([OLD], [OLD], 1.0)
    keys.grant(ACCOUNT, OLD, 10)
    after = time.monotonic()

    keys.seen([], [], after)
    keys.add(ACCOUNT, OLD, b"o" * 32, 1.0)
    keys.seen([OLD], [OLD], 1.0)

    assert None is keys.take(ACCOUNT)
    keys.seen([], [], after + 1)
    assert [] == keys.known()
    assert None is keys.first(ACCOUNT)


def test_uses_are_counted_whichever_thread_takes_them() -> None:
    """None is taken twice."""
    keys = DataKeys()
    keys.add(ACCOUNT, NEW, b"n" * 32)
    keys.seen([NEW], [NEW], time.monotonic())
    keys.grant(ACCOUNT, NEW, 10_000)
    threads = [threading.Thread(target=lambda: [keys.take(ACCOUNT) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 6000 == keys.left(ACCOUNT)
