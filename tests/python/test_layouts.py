"""Layouts: the shipped ones are valid, and every mistake names the file and the place."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from ingest.layouts import SHIPPED, read_layout
from ingest.reader import find_files
from ml.contract import read_contract
from ml.errors import AsxwError

PROJECT = Path(__file__).parents[2]
CONTRACT = read_contract(PROJECT, "raw")

VALID = """
name: mine
timezone: Australia/Sydney
decision_time: "16:15:00"
tables:
  prices:
    - files: prices.csv
      columns:
        symbol: code
        trade_date: date
        available_at: at_decision_time(trade_date)
        close: close
        volume: volume
"""


def _write(folder: Path, text: str) -> str:
    path = folder / "mine.yml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(p.stem for p in SHIPPED.glob("*.yml")))
def test_shipped_layouts_are_valid(name: str) -> None:
    layout = read_layout(name, CONTRACT)
    assert layout.name == name
    assert "prices" in layout.inputs
    assert layout.description


def test_sample_layout_has_every_column_of_the_contract() -> None:
    layout = read_layout("sample", CONTRACT)
    for name, table in CONTRACT.items():
        if table.ledger:
            continue
        (entry,) = layout.inputs[name]
        assert list(entry.columns) == [c.name for c in table.columns if not c.loader]


def test_own_layout(tmp_path: Path) -> None:
    layout = read_layout(_write(tmp_path, VALID), CONTRACT)
    assert layout.decision_time == dt.time(16, 15)
    (entry,) = layout.inputs["prices"]
    assert entry.files is not None
    assert entry.files.format == "csv"
    assert entry.columns["symbol"].sql == "code"


def test_time_without_quotes_is_understood(tmp_path: Path) -> None:
    text = VALID.replace('"16:15:00"', "16:15:00")
    assert read_layout(_write(tmp_path, text), CONTRACT).decision_time == dt.time(16, 15)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: mine\n", "", "lacks name"),
        ("timezone: Australia/Sydney", "timezone: Atlantis/Capital", "unknown time zone"),
        ('"16:15:00"', '"quarter past four"', "decision_time"),
        ("  prices:", "  bars:", "unknown setting bars"),
        ("close: close", "price: close", "tables.prices[1].columns.price"),
        ("        close: close\n", "", "requires close"),
        ("files: prices.csv", "file: prices.csv", "unknown setting file"),
        ("files: prices.csv", "files: ../prices.csv", "inside the loaded folder"),
        ("files: prices.csv", 'files: ""', "names no file"),
        ("files: prices.csv", "files: .", "names no file"),
        ("files: prices.csv", "files: daily/**", "names no file"),
        ("files: prices.csv", "files: a**b.csv", "side by side in 'a**b.csv'"),
        ("files: prices.csv", 'files: "{symbol}{part}.csv"', "side by side"),
        ("files: prices.csv", 'files: "{symbol}/{symbol}.csv"', "{symbol} stands in it twice"),
        ("files: prices.csv", "files: prices.csv\n      format: xls", "not csv or parquet"),
        ("files: prices.csv", "files: prices.csv\n      csv: {skip: -1}", "csv.skip"),
        ("files: prices.csv", "files: prices.csv\n      csv: {encoding: klingon}", "klingon"),
        ("files: prices.csv", 'files: prices.csv\n      csv: {delimiter: "||"}', "one character"),
        ("files: prices.csv", "files: prices.csv\n      optional: perhaps", "true or false"),
        ("files: prices.csv", "files: prices.csv\n      reject: {when: x}", "both when and reason"),
        ("close: close", "close:", "columns.close"),
        ("close: close", 'close: " "', "empty"),
        ("    - files", "      files", "list of inputs"),
        ("files: prices.csv", "optional: true", "either files or rows"),
        ("name: mine", "name: [", "not valid YAML"),
        ("name: mine", "name: mine\nname: his", "line 3: name stands twice"),
        ("close: close", "close: close\n        close: open", "line 13: close stands twice"),
        (
            "files: prices.csv",
            "files: p.csv\n      values: {date_format: '%Q'}",
            "date_format: '%Q'",
        ),
        (
            "files: prices.csv",
            "files: p.csv\n      values: {date_format: []}",
            "date_format: expected",
        ),
        ("tables:", "values: {timestamp_format: ['%Y', '']}\ntables:", "timestamp_format: ''"),
        (
            "files: prices.csv",
            "files: p.csv\n      lookups: {input: {files: x}}",
            "other than input",
        ),
        (
            "files: prices.csv",
            "files: p.csv\n      lookups: {more: {files: x, optional: true}}",
            "needs if_absent",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in VALID
    with pytest.raises(AsxwError) as error:
        read_layout(_write(tmp_path, VALID.replace(old, new, 1)), CONTRACT)
    assert expected in str(error.value)
    assert "mine.yml" in str(error.value)


def test_a_merged_mapping_may_say_otherwise(tmp_path: Path) -> None:
    """YAML's own way to repeat a key on purpose."""
    text = VALID.replace("columns:", "columns: &all").replace("prices.csv", "a.csv")
    text += "    - files: b.csv\n      columns: {<<: *all, close: last}\n"
    entries = read_layout(_write(tmp_path, text), CONTRACT).inputs["prices"]
    assert [e.columns["close"].sql for e in entries] == ["close", "last"]


def test_a_layout_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, VALID)
    for method in ("read_text", "is_file"):

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(Path, method, refuse)
            with pytest.raises(AsxwError, match=r"mine\.yml cannot be read: Permission denied"):
                read_layout(path, CONTRACT)


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(AsxwError, match="asx, sample, symbol_csv, us"):
        read_layout("nyse", CONTRACT)


def test_file_patterns(tmp_path: Path) -> None:
    for name in ("BHP.AX.csv", "CBA.csv", "x/y/Z1.csv", "note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n", encoding="utf-8")
    found = find_files(tmp_path, "{symbol}.csv")
    assert [(f.name, f.captures) for f in found] == [
        ("BHP.AX.csv", {"symbol": "BHP.AX"}),
        ("CBA.csv", {"symbol": "CBA"}),
    ]
    assert [f.name for f in find_files(tmp_path, "**/{symbol}.csv")] == [
        "BHP.AX.csv",
        "CBA.csv",
        "x/y/Z1.csv",
    ]
    assert [f.name for f in find_files(tmp_path, "*.txt")] == ["note.txt"]
