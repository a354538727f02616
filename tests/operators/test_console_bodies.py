"""How bodies and figures are laid out for a page."""

import base64
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ops.console.bodies import MOST_SHOWN, Image, images_of, shown
from ops.console.charts import HEIGHT, chart
from ops.console.pulse import Bar
from ops.console.wording import sentence


PNG = b"\x89PNG\r\n\x1a\n" + bytes(2000)


def test_json_is_laid_out_with_the_digits_that_were_sent() -> None:
    """No number becomes another one on its way to the page."""
    told = shown(b'{"amount":1.10,"big":12345678901234567890,"e":1E400}')
    assert (True, '{\n  "amount": 1.10,\n  "big": 12345678901234567890,\n  "e": 1E400\n}') == (told.is_json, told.text)


def test_an_image_is_cut_out_of_the_text_and_kept_apart() -> None:
    """Plain, as a data URL and in the alphabet of URLs; what is no image stays a long text."""
    plain = base64.b64encode(PNG).decode()
    url_safe = base64.urlsafe_b64encode(b"\xff\xd8\xff" + b"\xfb\xff" * 900).decode()
    body = f'{{"a":"data:image/png;base64,{plain}","b":"{url_safe}","c":"{"x" * 3000}"}}'.encode()
    told = shown(body)
    assert [Image(0, "image/png", len(PNG)), Image(1, "image/jpeg", 1803)] == told.images
    assert PNG == images_of(body)[0][1]
    assert (True, True, False) == (len(told.text) < 400, '"c": "xxxxx' in told.text, plain in told.text)


@given(st.binary(max_size=2000))
def test_any_bytes_can_be_shown(content: bytes) -> None:
    """As text, whatever they are."""
    assert isinstance(shown(content).text, str)


def test_a_large_body_is_cut_for_the_page() -> None:
    """And said to be."""
    told = shown(b"[" + b"1," * MOST_SHOWN + b"1]")
    assert (True, True) == (told.cut, len(told.text) <= MOST_SHOWN)


def test_a_chart_shows_every_bar_that_has_something() -> None:
    """The highest reaches the top; a single delivery can still be seen; what is not counted yet is empty."""
    begin = datetime(2026, 5, 1, tzinfo=UTC)
    numbers = (0, 1, 100_000, None)
    drawn = chart("Last hour", "a minute", [Bar(begin + timedelta(minutes=n), many) for n, many in enumerate(numbers)])
    assert ([0.0, 2.0, HEIGHT, 0.0], 100_000, 100_001) == (
        [bar.height for bar in drawn.bars],
        drawn.most,
        drawn.total,
    )


def test_advice_is_a_sentence_with_its_commands_set_apart() -> None:
    """And nothing in it is markup of its own."""
    assert "See &lt;b&gt; with <code>penstock x</code>." == str(sentence("see <b> with `penstock x`"))
