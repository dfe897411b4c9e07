"""What a load keeps account of: rejected rows per file, lookups' lines, versions, and ranges."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.loader import LoadResult, load
from ml.errors import AsxwError

HEAD = "symbol,date,open,high,low,close,volume\n"
LAYOUT = """
name: acme
timezone: Australia/Sydney
decision_time: "16:15:00"
tables:
  prices:
    - files: prices*.csv
      columns: {symbol: symbol, trade_date: date, available_at: at_decision_time(trade_date),
                open: open, high: high, low: low, close: close, volume: volume}
"""


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def _layout(folder: Path, more: str = "", text: str = LAYOUT) -> str:
    path = folder / "acme.yml"
    path.write_text(text + more, encoding="utf-8")
    return str(path)


def _total(result: LoadResult, table: str = "prices") -> tuple[int, int, int, int]:
    total = result.total(table)
    return total.read, total.loaded, total.unchanged, total.rejected


def _folder(tmp_path: Path, name: str, files: dict[str, str]) -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder


def test_a_rejected_row_is_kept_once_for_each_file(
    tmp_path: Path, project_dir: Path, warehouse_path: Path
) -> None:
    """The symbol is in the file's name only, so bad lines of two files are alike."""
    bad = "Date,Open,High,Low,Close,Adj Close,Volume\n" + "2025-01-06,0,0,0,0,0,0\n" * 2
    bhp = _folder(tmp_path, "bhp", {"BHP.csv": bad})
    both = _folder(tmp_path, "both", {"AAA.csv": bad, "BHP.csv": bad, "CBA.csv": bad})
    for folder in (bhp, both, both, bhp):
        load(folder, "symbol_csv", project_dir)
        counts = "select file_name, count(*) from raw.rejected_rows group by 1 order by 1"
        files = sorted(path.name for path in (bhp if folder is bhp else both).iterdir())
        kept = dict(_rows(warehouse_path, counts))
        assert all(kept[name] == 2 for name in files)
    assert sum(kept.values()) == 6


def test_a_version_loaded_again_adds_nothing(
    tmp_path: Path, project_dir: Path, warehouse_path: Path
) -> None:
    """Whatever came after it, and whatever time is given for it."""
    layout = _layout(tmp_path)
    files = {
        close: _folder(tmp_path, close, {"prices.csv": f"{HEAD}BHP,2025-01-06,10,20,1,{close},5\n"})
        for close in ("10", "11", "12")
    }
    arrived = {"10": 7, "11": 8, "12": 9}

    def deliver(close: str, day: int | None) -> tuple[int, int, int, int]:
        when = dt.datetime(2025, 1, day, 10) if day is not None else None
        return _total(load(files[close], layout, project_dir, received_at=when))

    for close, day in arrived.items():
        assert deliver(close, day) == (1, 1, 0, 0)
    stored = _rows(warehouse_path, "select available_at, close from raw.prices order by 1")
    assert [close for _, close in stored] == [10.0, 11.0, 12.0]
    for close, day in arrived.items():
        for again in (day, 10, None):
            assert deliver(close, again) == (1, 0, 1, 0)
    assert _rows(warehouse_path, "select available_at, close from raw.prices order by 1") == stored
    _folder(tmp_path, "10", {"prices.csv": f"{HEAD}BHP,2025-01-06,10,20,1,13,5\n"})
    with pytest.raises(AsxwError, match="differs from the stored one"):
        deliver("10", 8)


LOOKUP = """      lookups: {listed: {files: listed*.txt}}
      reject: [{when: "symbol in (select symbol from listed)", reason: listed}]
"""


def test_malformed_lines_of_a_lookup_are_counted_and_kept(
    tmp_path: Path, project_dir: Path, warehouse_path: Path
) -> None:
    folder = _folder(
        tmp_path,
        "in",
        {
            "prices.csv": f"{HEAD}BHP,2025-01-06,1,2,1,2,5\nCBA,2025-01-06,1,2,1,2,5\n",
            "listed.txt": "symbol,kind\nBHP,a,b\nCBA,a\n",
            "listed_2.txt": "symbol,kind\nZIP,a\n",
        },
    )
    layout = _layout(tmp_path, LOOKUP)
    for _ in range(2):
        result = load(folder, layout, project_dir)
        assert [(c.file, c.read, c.rejected) for c in result.counts] == [
            ("prices.csv", 2, 1),
            ("listed.txt", 1, 1),
        ]
        reasons = [
            (
                "listed.txt",
                1,
                '{"line":"BHP,a,b"}',
                "lookup listed, malformed line: too many fields",
            ),
            ("prices.csv", 2, None, "listed"),
        ]
        assert [
            (file, number, row if file == "listed.txt" else None, reason)
            for file, number, row, reason in _rows(
                warehouse_path,
                "select file_name, row_number, row_json, reason from raw.rejected_rows order by 1",
            )
        ] == reasons


def test_a_line_of_an_input_that_is_also_a_lookup_is_kept_once(
    tmp_path: Path, project_dir: Path, warehouse_path: Path
) -> None:
    """One file as input, as lookup, and as a second input's lookup again."""
    folder = _folder(
        tmp_path,
        "in",
        {
            "prices.csv": f"{HEAD}BHP,2025-01-06,1,2,1,2,5\nCBA,2025-01-06,1,2,1,2\n",
            "prices_2.csv": f"{HEAD}ANZ,2025-01-06,1,2,1,2,5\n",
        },
    )
    itself = """      lookups: {same: {files: prices.csv}}
      reject: [{when: "symbol not in (select symbol from same) and false", reason: none}]
"""
    second = LAYOUT.partition("  prices:\n")[2]
    layout = _layout(
        tmp_path, itself + second.replace("prices*", "prices_2") + itself, LAYOUT.replace("*", "")
    )
    result = load(folder, layout, project_dir)
    assert _total(result) == (3, 2, 0, 1)
    assert _rows(warehouse_path, "select file_name, row_number, reason from raw.rejected_rows") == [
        ("prices.csv", 2, "malformed line: too few fields")
    ]


def _parquet(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


REAL = (
    LAYOUT.partition("\n    - files")[0].replace("acme", "ranges")
    + """
    - files: prices.parquet
      columns: {symbol: symbol, trade_date: trade_date, available_at: available_at,
                close: close, volume: volume}
  fundamentals:
    - files: fundamentals.parquet
      columns: {symbol: symbol, period_end: period_end, period_type: "'half'", eps: eps}
  macro:
    - files: macro.parquet
      columns: {series_id: series, reference_date: day, available_at: known, value: value}
  announcements:
    - files: announcements.parquet
      columns: {symbol: symbol, announced_at: at, headline: "'x'", sequence: 1,
                sentiment: sentiment, confidence: confidence}
"""
)


def test_dates_to_come_and_values_out_of_range_are_rejected(
    tmp_path: Path, project_dir: Path, warehouse_path: Path
) -> None:
    """And what may be: a rate announced before it takes effect, a report just after its period."""
    folder = tmp_path / "in"
    day, ahead = dt.date(2025, 1, 6), dt.date(2050, 6, 30)
    close, known = dt.datetime(2025, 1, 6, 16, 15), dt.datetime(2025, 1, 6, 14, 30)
    bar = {"symbol": "BHP", "trade_date": day, "available_at": close, "close": 1.0, "volume": 1.0}
    _parquet(
        folder,
        "prices",
        [
            bar,
            bar | {"symbol": "CBA", "available_at": dt.datetime(1999, 1, 1)},
            bar | {"symbol": "ANZ", "available_at": dt.datetime(1999, 1, 1), "close": -1.0},
            bar | {"symbol": "NAB", "available_at": dt.datetime(2025, 1, 6)},
            bar | {"symbol": "WBC", "available_at": None},
        ],
    )
    ends = (day, ahead, day + dt.timedelta(days=1))
    _parquet(
        folder,
        "fundamentals",
        [{"symbol": f"S{n}", "period_end": end, "eps": 1.0} for n, end in enumerate(ends)],
    )
    _parquet(
        folder,
        "macro",
        [
            {"series": "rba_cash_rate", "day": d, "known": known, "value": 4.35}
            for d in (day, day + dt.timedelta(days=7), day + dt.timedelta(days=8), ahead)
        ],
    )
    scores = [(-1.0, 1.0), (1.0, 0.0), (None, None), (float("nan"), 0.5)]
    wrong = [(-1.01, 0.5), (50.0, -3.0), (0.0, 1.5), (float("inf"), 0.5)]
    said = [
        {"symbol": f"S{n}", "at": known, "sentiment": s, "confidence": c}
        for n, (s, c) in enumerate(scores + wrong)
    ]
    late = {"symbol": "BHP", "sentiment": None, "confidence": None}
    said += [late | {"at": dt.datetime(2025, 1, 6, 23, 59)}, late | {"at": dt.datetime(2050, 1, 1)}]
    _parquet(folder, "announcements", said)
    result = load(
        folder, _layout(tmp_path, text=REAL), project_dir, received_at=dt.datetime(2025, 1, 6, 18)
    )
    assert _total(result) == (5, 2, 0, 3)
    assert _total(result, "fundamentals") == (3, 1, 0, 2)
    assert _total(result, "macro") == (4, 2, 0, 2)
    assert _total(result, "announcements") == (10, 5, 0, 5)
    sentiment, confidence = "sentiment: not from -1 to 1", "confidence: not from 0 to 1"
    assert sorted(_rows(warehouse_path, "select table_name, reason from raw.rejected_rows")) == [
        ("announcements", "announced_at: in the future"),
        ("announcements", confidence),
        ("announcements", sentiment),
        ("announcements", sentiment),
        ("announcements", f"{sentiment}; {confidence}"),
        ("fundamentals", "period_end: in the future"),
        ("fundamentals", "period_end: in the future"),
        ("macro", "reference_date: in the future"),
        ("macro", "reference_date: in the future"),
        ("prices", "available_at: before its session"),
        ("prices", "available_at: missing"),
        ("prices", "close: not above zero"),
    ]
