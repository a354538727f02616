"""When the relay's daily work begins."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.configuration import read_configuration
from shared.errors import SettingsError
from shared.schedules import Reconcile


@pytest.mark.parametrize(
    ("now", "began"),
    [
        ("2026-05-04T02:59:59+00:00", "2026-05-03T03:30:00+00:00"),
        ("2026-05-04T03:30:00+00:00", "2026-05-04T03:30:00+00:00"),
        ("2026-05-04T05:29:00+02:00", "2026-05-03T03:30:00+00:00"),
    ],
)
def test_the_latest_beginning_is_today_or_yesterday(now: str, began: str) -> None:
    """By the clock in UTC, whatever zone the moment is given in."""
    schedule = Reconcile(schedule="daily", at="03:30")
    assert datetime.fromisoformat(began) == schedule.latest(datetime.fromisoformat(now))


def test_reconciliation_is_off_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    """It costs calls: who wants it says so."""
    assert "off" == read_configuration(tmp_path / "penstock.toml").reconcile.schedule


@pytest.mark.parametrize("text", ['schedule = "hourly"', 'at = "25:00"', 'at = "3"', "when = 1"])
def test_a_schedule_that_is_none_is_a_sentence(tmp_path: Path, text: str) -> None:
    """It names the section."""
    (tmp_path / "penstock.toml").write_text(f"[reconcile]\n{text}\n")
    with pytest.raises(SettingsError, match=r"^\[reconcile\] "):
        read_configuration(tmp_path / "penstock.toml")


def test_today_is_utc() -> None:
    """Midnight elsewhere changes nothing."""
    assert datetime(2026, 5, 4, 0, 0, tzinfo=UTC) == Reconcile(at="00:00").latest(datetime(2026, 5, 4, 12, tzinfo=UTC))
