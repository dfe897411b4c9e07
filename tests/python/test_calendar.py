"""The seed of sessions is what the exchanges' calendars say."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from ingest.calendar import SEED, sessions, write_sessions
from ml.cli import main

PROJECT = Path(__file__).parents[2]


def test_committed_seed_equals_the_library(tmp_path: Path) -> None:
    write_sessions(tmp_path / "sessions.csv")
    assert (tmp_path / "sessions.csv").read_bytes() == (PROJECT / SEED).read_bytes()


def test_known_sessions_and_holidays() -> None:
    days = set(sessions())
    assert ("XASX", "2024-01-25") in days
    assert ("XASX", "2024-01-26") not in days  # Australia Day
    assert ("XNYS", "2024-01-26") in days
    assert ("XNYS", "2024-07-04") not in days
    assert ("XASX", "2010-01-04") in days
    assert ("XNYS", "2027-12-31") in days


def test_command_writes_the_seed(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    (tmp_path / "dbt_project.yml").write_text("name: other\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["--project-dir", str(tmp_path), "calendar"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / SEED).read_bytes() == (PROJECT / SEED).read_bytes()
