"""`asxw sentiment`: its scores, its table, and what it leaves alone."""

from __future__ import annotations

import builtins
import datetime as dt
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from ml import headline_sentiment
from ml.cli import main
from ml.contract import read_contract
from ml.errors import AsxwError
from ml.headline_sentiment import score, score_headlines
from ml.warehouse import DuckDBWarehouse

pytest.importorskip("vaderSentiment")

ROWS = [
    ("AAA", "Excellent results and record profit", 1, None),
    ("AAA", "Excellent results and record profit", 2, None),
    ("BBB", "Terrible loss", 1, 0.75),
    ("CCC", "Appendix 4G", 1, None),
]


@pytest.fixture
def warehouse(project_dir: Path, warehouse_path: Path) -> Path:
    """A warehouse with four announcements, one of them scored by its vendor."""
    table = read_contract(project_dir, "raw")["announcements"]
    with duckdb.connect(str(warehouse_path)) as connection:
        connection.execute("create schema raw")
        connection.execute(table.ddl("raw"))
        for symbol, headline, sequence, sentiment in ROWS:
            connection.execute(
                """insert into raw.announcements
                    (symbol, announced_at, headline, sequence, sentiment) values (?, ?, ?, ?, ?)""",
                [symbol, dt.datetime(2024, 1, 5, 9), headline, sequence, sentiment],
            )
    return warehouse_path


def rows(path: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def run(project: Path) -> str:
    done = CliRunner().invoke(main, ["--project-dir", str(project), "sentiment"])
    assert done.exit_code == 0, done.output
    return done.output


def test_tone_has_the_sign_of_the_words_and_silence_is_unknown() -> None:
    (good, share), (bad, _), silent, shouted = score(
        ["Excellent results", "Terrible loss", "Appendix 4G", "EXCELLENT RESULTS"]
    )
    assert good is not None and bad is not None and share is not None
    assert good > 0 > bad
    assert 0 < share <= 1
    assert silent == (None, None)
    assert shouted == (good, share)


def test_every_headline_is_scored_once(project_dir: Path, warehouse: Path) -> None:
    before = rows(warehouse, "select * from raw.announcements order by all")
    assert run(project_dir).startswith("3 headlines scored, 2 of them with a tone; 0 were")
    scored = rows(warehouse, "select headline, sentiment, confidence from raw.headline_sentiment")
    assert {headline for headline, _, _ in scored} == {headline for _, headline, _, _ in ROWS}
    assert ("Appendix 4G", None, None) in scored
    first = rows(warehouse, "select * from raw.headline_sentiment order by all")
    assert run(project_dir).startswith("0 headlines scored, 0 of them with a tone; 3 were")
    assert rows(warehouse, "select * from raw.headline_sentiment order by all") == first
    # what the vendor delivered is as it was
    assert rows(warehouse, "select * from raw.announcements order by all") == before


def test_what_another_job_scored_meanwhile_is_there_once(
    project_dir: Path, warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, now = read_contract(project_dir, "raw"), dt.datetime(2026, 1, 1)
    with DuckDBWarehouse(warehouse) as opened:

        def overtaken(headlines: list[str]) -> list[tuple[float | None, float | None]]:
            monkeypatch.setattr(headline_sentiment, "score", score)
            score_headlines(opened, "raw", contract, now)
            return score(headlines)

        monkeypatch.setattr(headline_sentiment, "score", overtaken)
        score_headlines(opened, "raw", contract, now)
    counted = "select count(*), count(distinct headline) from raw.headline_sentiment"
    assert rows(warehouse, counted) == [(3, 3)]


def test_scores_of_another_version_are_replaced(project_dir: Path, warehouse: Path) -> None:
    run(project_dir)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("update raw.headline_sentiment set scorer = 'old 1.0', sentiment = 1")
    assert run(project_dir).startswith("3 headlines scored")
    scorers = rows(warehouse, "select distinct scorer from raw.headline_sentiment")
    assert len(scorers) == 1
    assert scorers[0][0].startswith("vaderSentiment ")
    assert rows(warehouse, "select count(*) from raw.headline_sentiment") == [(3,)]


def test_without_announcements_it_says_what_to_do(project_dir: Path) -> None:
    done = CliRunner().invoke(main, ["--project-dir", str(project_dir), "sentiment"])
    assert done.exit_code == 1
    assert "run `asxw load` first" in done.output


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name.startswith("vaderSentiment"):
            raise ImportError(name)
        return real_import(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(AsxwError, match="asx-warehouse\\[sentiment\\]"):
        score(["Excellent"])
