"""What a settings file no longer says stays in force, wherever it was cut."""

import tomllib

import pytest

from shared.vanished import accounts_of, keep, title, without


WHOLE = """\
[retry]
base_seconds = 2.0
max_attempts = 5

[imin]
debounce_seconds = 1.0

[[imin.accounts]]
name = "main"
webhook_keys = ["k"]
api_key = "a"
base_url = "https://book.imin.co"

[[paybook.accounts]]
name = "main"
webhook_tokens = ["t"]
api_key = "p"
base_url = "https://sync.paybook.com"
webhook_header = { name = "X-Hook-Secret", value = "v" }
budget = { calls = 5 }

[imin.retry]
max_attempts = 7

[[handlers]]
name = "crm"
url = "https://app.example.com"
secret = "s"

[[handlers]]
name = "mail"
url = "https://mail.example.com"
secret = "s"
concurrency = 4

[retention]
bodies = 365
events = 365
"""


def test_nothing_goes_wherever_the_file_is_cut() -> None:
    """At each of its characters, if what is left is TOML and its entries have names: all that the whole file said."""
    whole, valid = tomllib.loads(WHOLE), 0
    for at in range(len(WHOLE)):
        text = WHOLE[:at]
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            continue
        if _named(document):
            valid += 1
            assert _sorted(whole) == _sorted(keep(whole, document, text).document), text
    assert valid > 50


def _named(document: object) -> bool:
    """One without a name is refused with its whole file."""
    match document:
        case dict():
            return all(map(_named, document.values()))
        case list():
            return all("name" in one for one in document if isinstance(one, dict))
    return True


def _sorted(document: object) -> object:
    match document:
        case dict():
            return {key: _sorted(value) for key, value in sorted(document.items())}
        case list() if document and isinstance(document[0], dict):
            return [_sorted(one) for one in sorted(document, key=lambda one: one["name"])]
    return document


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        (WHOLE, "", ["[[handlers]]", "[imin]", "[paybook]", "[retention]", "[retry]"]),
        (WHOLE, WHOLE.replace('"mail"', '"post"'), ["[[handlers]] mail"]),
        (WHOLE, WHOLE.replace("[imin.retry]\nmax_attempts = 7\n", ""), ["[imin] retry"]),
        (WHOLE, WHOLE.replace("events = 365\n", ""), ["[retention] events"]),
        # the file goes on after these, so that nobody cut it there
        (WHOLE, WHOLE.replace("max_attempts = 5\n", ""), []),
        (WHOLE, WHOLE.replace("budget = { calls = 5 }\n", ""), []),
        (WHOLE, WHOLE.replace("[imin]\ndebounce_seconds = 1.0\n", "[imin]\n"), []),
        ('[[imin.accounts]]\nname = "a"\nx = 1\n', '[[imin.accounts]]\nname = "a"\n', ["[[imin.accounts]] a x"]),
        (
            '[[imin.accounts]]\nname = "a"\n[imin.accounts.budget]\ncalls = 1\nseconds = 2\n',
            '[[imin.accounts]]\nname = "a"\n[imin.accounts.budget]\ncalls = 1\n',
            ["[[imin.accounts]] a budget seconds"],
        ),
        (
            '[[imin.accounts]]\nname = "a"\n[[magicline.accounts]]\nname = "b"\n[[imin.accounts]]\nname = "c"\nx = 1\n',
            '[[imin.accounts]]\nname = "a"\n[[magicline.accounts]]\nname = "b"\n[[imin.accounts]]\nname = "c"\n',
            ["[[imin.accounts]] c x"],
        ),
        (
            '[following_up]\nkinds = [\n["a"],\n]\nx = 1\n',
            '[following_up]\nkinds = [\n["a"],\n]\n',
            ["[following_up] x"],
        ),
        ("[retention]\nbodies = 365\n", "[retention]\nbodies = 36", ["[retention] bodies"]),
        ("[retention]\nbodies = 365\n", "[retention]\nbodies = 36\n", []),
        ("[retry]\nx = 50\n[retention]\nx = 1\n", "[retry]\nx = 5\n[retention]\nx = 1", []),
        # who is taken out of the console's users does not come in any more
        (
            '[[console.users]]\nname = "a"\n[[console.users]]\nname = "b"\n[retry]\n',
            '[[console.users]]\nname = "a"\n[retry]\n',
            [],
        ),
        ('[[console.users]]\nname = "a"\n[retry]\n', "[retry]\n", ["[console]"]),
        (
            '[console]\nflower_url = "x"\n[[console.users]]\nname = "a"\n',
            '[console]\nflower_url = "x"\n',
            ["[console] users"],
        ),
    ],
)
def test_what_a_file_no_longer_says(before: str, after: str, gone: list[str]) -> None:
    """Is named as the file would have it."""
    kept = keep(tomllib.loads(before), tomllib.loads(after), after)
    assert gone == [title(place) for place in kept.vanished]


def test_what_was_removed_is_not_kept() -> None:
    """The account that somebody named, and no other."""
    document = without(tomllib.loads(WHOLE), {("imin", "main"), ("magicline", "berlin")})
    assert [("paybook", "main")] == list(accounts_of(document))
