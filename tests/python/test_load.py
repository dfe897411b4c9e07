"""`asxw load` on real DuckDB files: what is loaded, what is rejected and why, and what stays."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ingest import loader
from ingest.loader import LoadResult, load
from ml.cli import main
from ml.contract import read_contract
from ml.errors import AsxwError

PROJECT = Path(__file__).parents[2]
CONTRACT = read_contract(PROJECT, "raw")

PRICE_COLUMNS = """
        symbol: code
        trade_date: date
        available_at: at_decision_time(trade_date)
        open: open
        high: high
        low: low
        close: close
        volume: volume
"""


def _layout(folder: Path, prices: str = "", tables: str = "", columns: str = PRICE_COLUMNS) -> str:
    """A layout over prices.csv or what `prices` says, and more tables."""
    source = prices or "files: prices.csv"
    path = folder / "layout.yml"
    path.write_text(
        "name: test\ntimezone: Australia/Sydney\ndecision_time: '16:15:00'\n"
        f"tables:\n  prices:\n    - {source}\n      columns:{columns}{tables}",
        encoding="utf-8",
    )
    return str(path)


def _price(code: object, day: str, close: object = 10.0, **more: object) -> dict[str, object]:
    row: dict[str, object] = {"code": code, "date": dt.date.fromisoformat(day)}
    row |= {"open": 10.0, "high": 12.0, "low": 9.0, "close": close, "volume": 100.0}
    return row | more


def _parquet(path: Path, rows: Sequence[dict[str, object]] | pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), path)


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def _total(result: LoadResult, table: str = "prices") -> tuple[int, int, int, int]:
    total = result.total(table)
    assert total.read == total.loaded + total.unchanged + total.rejected
    return total.read, total.loaded, total.unchanged, total.rejected


def _reasons(path: Path, table: str = "prices") -> dict[str, int]:
    found = _rows(
        path,
        "select reason, count(*) from raw.rejected_rows "
        f"where table_name = '{table}' group by reason",
    )
    return dict(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture
def market(tmp_path: Path, folder: Path) -> str:
    """A folder with three good Parquet rows, and its layout."""
    _parquet(
        folder / "prices.parquet",
        [_price("BHP", "2024-01-02"), _price("BHP", "2024-01-03"), _price("CBA", "2024-01-02")],
    )
    return _layout(tmp_path, "files: prices.parquet")


def test_same_load_twice(
    project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    assert _total(load(folder, market, project_dir)) == (3, 3, 0, 0)
    before = _rows(warehouse_path, "select * from raw.prices order by all")
    assert _total(load(folder, market, project_dir)) == (3, 0, 3, 0)
    assert _rows(warehouse_path, "select * from raw.prices order by all") == before
    assert before[0][:3] == ("BHP", dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 16, 15))
    assert {row[-2] for row in before} == {"test"}
    log = _rows(
        warehouse_path,
        "select file_name, rows_read, rows_loaded, rows_unchanged, rows_rejected "
        "from raw.load_log order by loaded_at",
    )
    assert log == [("prices.parquet", 3, 3, 0, 0), ("prices.parquet", 3, 0, 3, 0)]
    assert len(_rows(warehouse_path, "select distinct load_id from raw.load_log")) == 2


def test_every_broken_row_is_kept_with_its_reason(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    """One per cent of the rows breaks the contract, ten of each kind."""
    start = dt.date(2010, 1, 4)
    good = [
        f"S{n % 50:02d},{start + dt.timedelta(days=n // 50)},10,12,9,11,{100 + n}"
        for n in range(15_840)
    ]
    kinds = {
        "symbol: missing": lambda n: f"  ,2024-02-{n + 1:02d},10,12,9,11,1",
        "symbol: not a symbol": lambda n: f"B{n} HP,2024-02-01,10,12,9,11,1",
        "trade_date: not a date": lambda n: (
            f"X{n},{('2024-02-30', '24-02-01', 'infinity')[n % 3]},10,12,9,11,1"
        ),
        "trade_date: missing": lambda n: f"X{n},,10,12,9,11,1",
        "trade_date: in the future": lambda n: f"X{n},2999-01-{n + 1:02d},10,12,9,11,1",
        "close: not a number": lambda n: f"C{n},2024-02-01,10,12,9,1O.5,1",
        "close: missing": lambda n: f"C{n},2024-02-02,10,12,9,,1",
        "close: not above zero": lambda n: f"C{n},2024-02-03,10,12,9,{-n},1",
        "close: not finite": lambda n: f"C{n},2024-02-04,10,12,9,inf,1",
        "open: not above zero": lambda n: f"O{n},2024-02-04,0,12,9,10,1",
        "volume: negative": lambda n: f"V{n},2024-02-04,10,12,9,10,-1",
        "volume: not finite": lambda n: f"V{n},2024-02-05,10,12,9,10,inf",
        "high below low": lambda n: f"H{n},2024-02-04,10,8,9,10,1",
        "close: not a number; high below low": lambda n: f"H{n},2024-02-05,10,8,9,#REF!,1",
        "malformed line: too many fields": lambda n: f"M{n},2024-02-04,10,12,9,10,1,1",
        "malformed line: too few fields": lambda n: f"M{n},2024-02-04,10,12,9",
    }
    lines = list(good)
    for position, make in enumerate(kinds.values()):
        for n in range(10):
            lines.insert((position * 97 + n * 1013) % len(lines), make(n))
    text = "code,date,open,high,low,close,volume\n" + "\n".join(lines) + "\n"
    (folder / "prices.csv").write_text(text, encoding="utf-8")
    layout = _layout(tmp_path)
    assert _total(load(folder, layout, project_dir)) == (16_000, 15_840, 0, 160)
    assert _reasons(warehouse_path) == dict.fromkeys(kinds, 10)
    numbered = _rows(warehouse_path, "select row_number, row_json, reason from raw.rejected_rows")
    for number, row, reason in numbered:
        cells = json.loads(row)
        line = lines[number - 1]
        if reason.startswith("malformed"):
            assert cells == {"line": line}
        else:
            assert [cells[k] or "" for k in cells] == line.split(",")
    assert _total(load(folder, layout, project_dir)) == (16_000, 0, 15_840, 160)
    assert len(_rows(warehouse_path, "select 1 from raw.rejected_rows")) == 160


def test_bad_rows_after_malformed_lines_keep_their_place(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    good, bad = "S{n},2024-01-02,1,1,1,1,1", "S{n},2024-01-02,1,1,1,x,1"
    kinds = [good, "a", "b", "c", bad, "d", "e", good, bad, "f", bad]
    lines = [kind.format(n=n) for n, kind in enumerate(kinds)]
    text = "code,date,open,high,low,close,volume\n" + "\n".join(lines) + "\n"
    (folder / "prices.csv").write_text(text, encoding="utf-8")
    load(folder, _layout(tmp_path), project_dir)
    found = _rows(warehouse_path, "select row_number, row_json from raw.rejected_rows order by 1")
    assert [number for number, _ in found] == [2, 3, 4, 5, 6, 7, 9, 10, 11]
    for number, row in found:
        assert ",".join(json.loads(row).values()) == lines[number - 1]


def test_identical_bad_rows_are_counted_each(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    text = "code,date,open,high,low,close,volume\n" + "BHP,2024-01-02,1,1,1,x,1\n" * 3
    (folder / "prices.csv").write_text(text, encoding="utf-8")
    layout = _layout(tmp_path)
    load(folder, layout, project_dir)
    load(folder, layout, project_dir)
    assert _reasons(warehouse_path) == {"close: not a number": 3}


def test_repeats_inside_one_file(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    _parquet(
        folder / "prices.parquet",
        [
            _price("BHP", "2024-01-02"),
            _price("bhp ", "2024-01-02"),
            _price("BHP", "2024-01-02"),
            _price("CBA", "2024-01-02", 10.0),
            _price("CBA", "2024-01-02", 11.0),
            _price("CBA", "2024-01-02", 11.0),
        ],
    )
    layout = _layout(tmp_path, "files: prices.parquet")
    assert _total(load(folder, layout, project_dir)) == (6, 1, 0, 5)
    assert _reasons(warehouse_path) == {
        "duplicate row": 2,
        "conflicting rows with the same key": 3,
    }
    assert _rows(warehouse_path, "select symbol from raw.prices") == [("BHP",)]


def test_parquet_types(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    """Decimals, text, timestamps and dictionaries are read; NaN is no price; a null open passes."""
    table = pa.table(
        {
            "code": pa.array(["A", "B", "C", "D"]).dictionary_encode(),
            "date": pa.array([dt.datetime(2024, 1, 2)] * 4, pa.timestamp("ns")),
            "open": pa.array([None, 1.5, float("nan"), 1.5]),
            "high": pa.array([2] * 4, pa.int32()),
            "low": pa.array([1] * 4, pa.decimal128(9, 2)),
            "close": pa.array(["1.25", "x", "1.25", "NaN"]),
            "volume": pa.array([1] * 4, pa.uint64()),
        }
    )
    _parquet(folder / "prices.parquet", table)
    layout = _layout(tmp_path, "files: prices.parquet")
    assert _total(load(folder, layout, project_dir)) == (4, 1, 0, 3)
    assert _reasons(warehouse_path) == {
        "close: not a number": 1,
        "open: not finite": 1,
        "close: missing": 1,
    }
    assert _rows(warehouse_path, "select open, high, low, close, volume from raw.prices") == [
        (None, 2.0, 1.0, 1.25, 1.0)
    ]


def test_nested_column(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    rows = [_price("BHP", "2024-01-02", {"value": 1.0}), _price("CBA", "2024-01-02", None)]
    _parquet(folder / "prices.parquet", rows)
    layout = _layout(tmp_path, "files: prices.parquet")
    assert _total(load(folder, layout, project_dir)) == (2, 0, 0, 2)
    assert _reasons(warehouse_path) == {
        'close: type STRUCT("value" DOUBLE) is not a number': 1,
        "close: missing": 1,
    }
    (row,) = _rows(
        warehouse_path, "select row_json from raw.rejected_rows where reason like '%STRUCT%'"
    )
    assert json.loads(row[0])["close"] == {"value": 1.0}


def test_vendor_csv(tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path) -> None:
    """BOM, CRLF, quotes, a comment above the header, thousands separators and dd/mm dates."""
    text = (
        "Prices of the day\r\n"
        "Code;Date;Open;High;Low;Close;Volume\r\n"
        'TRUE;31/01/2024;"1.234,50";1.300;1.200;1.234,50;1.000.000\r\n'
        "NA;31/01/2024;NULL;-;n/a;2,5;0\r\n"
        "NULL;1/2/2024;;;;2,5;0\r\n"
        "nan;01/02/2024;;;;2.5;0\r\n"
        "BAD;02/13/2024;;;;2,5;12.34\r\n"
    )
    (folder / "prices.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    source = (
        'files: prices.csv\n      csv: {delimiter: ";", skip: 1}\n'
        '      values: {decimal: ",", thousands: ".", date_format: "%d/%m/%Y"}'
    )
    columns = PRICE_COLUMNS.replace(": code", ": Code").replace(": date\n", ": Date\n")
    layout = _layout(tmp_path, source, columns=columns)
    assert _total(load(folder, layout, project_dir)) == (5, 3, 0, 2)
    assert _rows(
        warehouse_path, "select symbol, trade_date, open, close, volume from raw.prices order by 1"
    ) == [
        ("NA", dt.date(2024, 1, 31), None, 2.5, 0.0),
        ("NULL", dt.date(2024, 2, 1), None, 2.5, 0.0),
        ("TRUE", dt.date(2024, 1, 31), 1234.5, 1234.5, 1e6),
    ]
    assert _reasons(warehouse_path) == {
        "close: not a number": 1,
        "trade_date: not a date; volume: not a number": 1,
    }


def test_bytes_that_are_no_text(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    head = b"code,date,open,high,low,close,volume,note\n"
    good = b"BHP,2024-01-02,1,1,1,1,1,caf\xe9 \x96\n"
    bad = b"CBA,2024-01-02,1,1,1,1,1,\x81\n"
    (folder / "prices.csv").write_bytes(head + good + bad)
    layout = _layout(tmp_path, "files: prices.csv\n      csv: {encoding: cp1252}")
    assert _total(load(folder, layout, project_dir)) == (2, 1, 0, 1)
    assert _reasons(warehouse_path) == {"malformed line: not valid text in the file's encoding": 1}
    utf8 = _layout(tmp_path)
    assert _total(load(folder, utf8, project_dir)) == (2, 0, 0, 2)


def test_one_file_per_symbol(project_dir: Path, warehouse_path: Path, folder: Path) -> None:
    head = "Date,Open,High,Low,Close,Adj Close,Volume\n"
    for name in ("BHP.AX", "TRUE", "cba"):
        text = head + "2024-01-02,1,1,1,1,1,5\n2024-01-03,1,1,1,1,1,5\n"
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    plain = "Date,Open,High,Low,Close,Volume\n2024-01-02,1,1,1,x,5\n2024-01-03,1,1,1,1,5\n"
    (folder / "ZIP.csv").write_text(plain, encoding="utf-8")
    result = load(folder, "symbol_csv", project_dir)
    assert _total(result) == (8, 7, 0, 1)
    assert [(c.file, c.read) for c in result.counts] == [
        ("BHP.AX.csv", 2),
        ("TRUE.csv", 2),
        ("cba.csv", 2),
        ("ZIP.csv", 2),
    ]
    assert _rows(
        warehouse_path,
        "select symbol, count(*), count(adj_close) from raw.prices group by 1 order by 1",
    ) == [("BHP.AX", 2, 2), ("CBA", 2, 2), ("TRUE", 2, 2), ("ZIP", 1, 0)]
    assert _rows(warehouse_path, "select file_name, row_number, reason from raw.rejected_rows") == [
        ("ZIP.csv", 1, "close: not a number")
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"code,date,open,high,low,volume\nBHP,2024-01-02,1,1,1,1\n", ("prices.csv", "close")),
        (b"", ("prices.csv", "no header line")),
        (b"\n\n", ("prices.csv", "no header line")),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path,
    project_dir: Path,
    warehouse_path: Path,
    folder: Path,
    content: bytes,
    expected: tuple[str, ...],
) -> None:
    (folder / "prices.csv").write_bytes(content)
    args = ["--project-dir", str(project_dir), "load", str(folder), "--layout", _layout(tmp_path)]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 1
    for part in expected:
        assert part in result.stderr
    assert "nothing was loaded" in result.stderr
    assert not warehouse_path.exists()


def test_truncated_parquet(
    project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    path = folder / "prices.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AsxwError, match=r"prices\.parquet cannot be read"):
        load(folder, market, project_dir)
    assert not warehouse_path.exists()


def test_folder_without_prices(
    project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    (folder / "prices.parquet").unlink()
    with pytest.raises(AsxwError, match=r"No file prices\.parquet"):
        load(folder, market, project_dir)
    with pytest.raises(AsxwError, match="is not a folder"):
        load(folder / "none", market, project_dir)
    assert not warehouse_path.exists()


def test_optional_column_may_be_absent(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    text = "code,date,close,volume\nBHP,2024-01-02,1,1\n"
    (folder / "prices.csv").write_text(text, encoding="utf-8")
    columns = PRICE_COLUMNS
    for name in ("open", "high", "low"):
        columns = columns.replace(f"{name}: {name}", f"{name}: {{optional: true}}")
    with pytest.raises(AsxwError, match=r"prices\.csv has no column open"):
        load(folder, _layout(tmp_path), project_dir)
    assert _total(load(folder, _layout(tmp_path, columns=columns), project_dir)) == (1, 1, 0, 0)


def test_correction_keeps_both_versions(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    load(folder, market, project_dir)
    corrected = tmp_path / "corrected"
    _parquet(
        corrected / "prices.parquet",
        [
            _price("BHP", "2024-01-02", 11.0),
            _price("BHP", "2024-01-03"),
            _price("CBA", "2024-01-04"),
        ],
    )
    arrived = dt.datetime(2024, 1, 5, 9)
    first = load(corrected, market, project_dir, received_at=arrived)
    assert _total(first) == (3, 2, 1, 0)
    versions = "select available_at, close from raw.prices where symbol = 'BHP' order by 1"
    expected = [
        (dt.datetime(2024, 1, 2, 16, 15), 10.0),
        (dt.datetime(2024, 1, 3, 16, 15), 10.0),
        (arrived, 11.0),
    ]
    assert _rows(warehouse_path, versions) == expected
    again = load(corrected, market, project_dir, received_at=arrived + dt.timedelta(days=1))
    assert _total(again) == (3, 0, 3, 0)
    # the file as first delivered does not bring the old value back
    assert _total(load(folder, market, project_dir)) == (3, 0, 3, 0)
    assert _rows(warehouse_path, versions) == expected


def test_correction_has_to_arrive_later(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    load(folder, market, project_dir)
    _parquet(folder / "prices.parquet", [_price("BHP", "2024-01-02", 11.0)])
    early = dt.datetime(2024, 1, 2, 12)
    with pytest.raises(AsxwError, match=r"raw\.prices: the row symbol BHP, trade_date 2024-01-02"):
        load(folder, market, project_dir, received_at=early)
    with pytest.raises(AsxwError, match="is in the future"):
        load(folder, market, project_dir, received_at=dt.datetime(2999, 1, 1))
    assert len(_rows(warehouse_path, "select 1 from raw.prices")) == 3
    assert len(_rows(warehouse_path, "select 1 from raw.load_log")) == 1


FUNDAMENTALS = """
  fundamentals:
    - files: fundamentals.parquet
      columns:
        symbol: symbol
        period_end: period_end
        period_type: "'half'"
        available_at: known
        eps: eps
"""


def test_restatement_is_a_version(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    """A vendor's own versions are rows; an older one that changed under a newer is rejected."""
    end = dt.date(2023, 12, 31)
    first, second = dt.datetime(2024, 2, 1), dt.datetime(2024, 3, 1)

    def deliver(*rows: tuple[dt.datetime, float]) -> tuple[int, int, int, int]:
        table = [{"symbol": "BHP", "period_end": end, "known": k, "eps": e} for k, e in rows]
        _parquet(folder / "fundamentals.parquet", table)
        layout = _layout(tmp_path, "files: prices.parquet", FUNDAMENTALS)
        return _total(load(folder, layout, project_dir), "fundamentals")

    assert deliver((first, 1.0)) == (1, 1, 0, 0)
    assert deliver((first, 1.0), (second, 1.1)) == (2, 1, 1, 0)
    assert deliver((first, 0.9), (second, 1.1)) == (2, 0, 1, 1)
    assert deliver((first, 0.9), (second, 1.1)) == (2, 0, 1, 1)
    assert _reasons(warehouse_path, "fundamentals") == {
        "changes a version that a later one in the same load replaces": 1
    }
    assert _rows(warehouse_path, "select available_at, eps from raw.fundamentals order by 1") == [
        (first, 1.0),
        (second, 1.1),
    ]


def test_missing_publication_time_is_assumed(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    """75 days after the period, flagged; also where the layout has no publication time at all."""
    end, known = dt.date(2023, 12, 31), dt.datetime(2024, 2, 1, 9)
    rows = [
        {"symbol": "BHP", "period_end": end, "known": known, "eps": 1.0},
        {"symbol": "CBA", "period_end": end, "known": None, "eps": 2.0},
        {"symbol": "NAB", "period_end": None, "known": None, "eps": 3.0},
    ]
    _parquet(folder / "fundamentals.parquet", rows)
    query = "select symbol, available_at, available_at_assumed from raw.fundamentals order by 1"
    assumed = dt.datetime(2024, 3, 15)
    layout = _layout(tmp_path, "files: prices.parquet", FUNDAMENTALS)
    assert _total(load(folder, layout, project_dir), "fundamentals") == (3, 2, 0, 1)
    assert _reasons(warehouse_path, "fundamentals") == {"period_end: missing": 1}
    assert _rows(warehouse_path, query) == [("BHP", known, False), ("CBA", assumed, True)]

    timeless = FUNDAMENTALS.replace("        available_at: known\n", "")
    layout = _layout(tmp_path, "files: prices.parquet", timeless)
    load(folder, layout, project_dir)
    assert _rows(warehouse_path, query)[1:] == [
        ("BHP", assumed, True),
        ("CBA", assumed, True),
    ]


def test_a_report_not_known_yet_can_be_corrected(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    """The correction is known just after what it corrects, and stops no later load."""
    end = dt.date.today() - dt.timedelta(days=10)
    timeless = FUNDAMENTALS.replace("        available_at: known\n", "")

    def deliver(eps: float) -> tuple[int, int, int, int]:
        _parquet(
            folder / "fundamentals.parquet", [{"symbol": "BHP", "period_end": end, "eps": eps}]
        )
        layout = _layout(tmp_path, "files: prices.parquet", timeless)
        return _total(load(folder, layout, project_dir), "fundamentals")

    assert deliver(1.0) == deliver(1.1) == deliver(1.2) == (1, 1, 0, 0)
    assert deliver(1.2) == deliver(1.0) == (1, 0, 1, 0)
    known = dt.datetime.combine(end, dt.time()) + dt.timedelta(days=75)
    later = dt.timedelta(microseconds=1)
    assert _rows(warehouse_path, "select available_at, eps from raw.fundamentals order by 1") == [
        (known, 1.0),
        (known + later, 1.1),
        (known + 2 * later, 1.2),
    ]


SECURITIES = """
  securities:
    - files: names.csv
      optional: true
      columns: {symbol: code, name: name}
"""


def test_replaced_rows_are_kept(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    layout = _layout(tmp_path, "files: prices.parquet", SECURITIES)
    names = folder / "names.csv"
    names.write_text("code,name\nBHP,Broken Hill\nCBA,Commonwealth\n", encoding="utf-8")
    assert _total(load(folder, layout, project_dir), "securities") == (2, 2, 0, 0)
    names.write_text("code,name\nBHP,BHP Group\nCBA,Commonwealth\n", encoding="utf-8")
    assert _total(load(folder, layout, project_dir), "securities") == (2, 1, 1, 0)
    assert _total(load(folder, layout, project_dir), "securities") == (2, 0, 2, 0)
    assert _rows(warehouse_path, "select symbol, name from raw.securities order by 1") == [
        ("BHP", "BHP Group"),
        ("CBA", "Commonwealth"),
    ]
    ((table, row),) = _rows(warehouse_path, "select table_name, row_json from raw.replaced_rows")
    assert table == "securities"
    assert json.loads(row)["name"] == "Broken Hill"
    names.unlink()
    assert load(folder, layout, project_dir).total("securities").read == 0


def test_failure_in_the_middle_leaves_nothing(
    tmp_path: Path,
    project_dir: Path,
    warehouse_path: Path,
    folder: Path,
    market: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second table fails after the first was merged; the file is as it was before."""
    (folder / "names.csv").write_text("code,name\nBHP,x\n", encoding="utf-8")
    bad = SECURITIES.replace("name: name", "name: upper(name) || (select missing from nowhere)")
    with pytest.raises(AsxwError, match="securities"):
        load(folder, _layout(tmp_path, "files: prices.parquet", bad), project_dir)
    assert not warehouse_path.exists()

    load(folder, _layout(tmp_path, "files: prices.parquet"), project_dir)
    _parquet(folder / "prices.parquet", [_price("NEW", "2024-01-02")])
    layout = _layout(tmp_path, "files: prices.parquet", SECURITIES)
    merge = loader.merge

    def fail(warehouse: Any, schema: str, table: Any, *args: Any, **more: Any) -> Any:
        if table.name == "securities":
            raise duckdb.OutOfMemoryException("no memory")
        return merge(warehouse, schema, table, *args, **more)

    monkeypatch.setattr(loader, "merge", fail)
    with pytest.raises(AsxwError, match="nothing was loaded"):
        load(folder, layout, project_dir)
    assert len(_rows(warehouse_path, "select 1 from raw.prices")) == 3
    assert len(_rows(warehouse_path, "select 1 from raw.load_log")) == 1


def test_file_in_use(project_dir: Path, warehouse_path: Path, folder: Path, market: str) -> None:
    load(folder, market, project_dir)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import duckdb; c = duckdb.connect({str(warehouse_path)!r});"
            "print(1, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(AsxwError, match="is in use by another process"):
            load(folder, market, project_dir)
    finally:
        holder.communicate(b"\n")


def test_query_loses_and_doubles_nothing(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    """Rows a query leaves out are rejected; rows it doubles are an error of the layout."""

    def layout(query: str) -> str:
        return _layout(tmp_path, f"files: prices.parquet\n      query: {query}")

    some = layout("select * from input where code = 'BHP'")
    assert _total(load(folder, some, project_dir)) == (3, 2, 0, 1)
    assert _reasons(warehouse_path) == {"left out by the layout's query": 1}
    with pytest.raises(AsxwError, match="more than once"):
        load(folder, layout("select input.* from input, range(2)"), project_dir)
    with pytest.raises(AsxwError, match="none of its input"):
        other = "(values ('ZZZ')) as other (code)"
        query = f"select input.* from input right join {other} on input.code = other.code"
        load(folder, layout(query), project_dir)
    with pytest.raises(AsxwError, match=r"select input\.\*"):
        load(folder, layout("select code, date from input"), project_dir)
    with pytest.raises(AsxwError, match=r"prices\.parquet has no column nothing"):
        load(folder, layout("select *, nothing from input"), project_dir)


def test_expression_that_fails_on_a_row(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    rows = "BHP,2024-01-02,1,1,1,100,1\nCBA,2024-01-02,1,1,1,x,1\nCBA,2024-01-03,1,1,1,NA,1\n"
    (folder / "prices.csv").write_text("code,date,open,high,low,cents,volume\n" + rows)
    columns = PRICE_COLUMNS.replace("close: close", "close: parse_number(cents) / 100")
    columns = columns.replace("open: open", "open: parse_number(cents) / 50")
    assert _total(load(folder, _layout(tmp_path, columns=columns), project_dir)) == (3, 1, 0, 2)
    assert _rows(warehouse_path, "select open, close from raw.prices") == [(2.0, 1.0)]
    assert _reasons(warehouse_path) == {
        "open: not a number; close: not a number": 1,
        "close: missing": 1,
    }


def test_merged_rows_and_rules_of_the_layout(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    tables = """
  securities:
    - files: names.csv
      lookups:
        sectors: {files: sectors.csv, optional: true, if_absent: [code, sector]}
      query: >
        select input.*, sectors.sector from input left join sectors on sectors.code = input.code
      columns: {symbol: code, name: name, sector: sector}
    - files: sectors.csv
      optional: true
      merged_when: code <> 'ONLY'
      reject: {when: sector = 'test', reason: a test line}
      columns: {symbol: code, sector: sector}
"""
    layout = _layout(tmp_path, "files: prices.parquet", tables)
    (folder / "names.csv").write_text("code,name\nBHP,x\nCBA,y\nB AD,z\n", encoding="utf-8")
    assert _total(load(folder, layout, project_dir), "securities") == (3, 2, 0, 1)
    sectors = "code,sector\nBHP,Mining\nONLY,Banks\nLOST,Banks\nT,test\n"
    (folder / "sectors.csv").write_text(sectors, encoding="utf-8")
    result = load(folder, layout, project_dir)
    assert [(c.file, c.read, c.loaded, c.unchanged, c.rejected) for c in result.counts[1:]] == [
        ("names.csv", 3, 1, 1, 1),
        ("sectors.csv", 4, 2, 0, 2),
    ]
    assert _reasons(warehouse_path, "securities") == {
        "symbol: not a symbol": 1,
        "the row it belongs to was rejected": 1,
        "a test line": 1,
    }


def test_weekdays_and_times(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    """Four weekdays after each day of a week; a week-end counts from its Friday."""
    tables = """
  short_positions:
    - files: short.csv
      columns:
        symbol: code
        trade_date: date
        available_at: at_time(add_weekdays(trade_date, 4), '10:00:00')
        short_pct: pct
"""
    days = [dt.date(2024, 1, d) for d in range(1, 15)]
    text = "code,date,pct\n" + "".join(f"BHP,{d},150\n" for d in days)
    (folder / "short.csv").write_text(text, encoding="utf-8")
    load(folder, _layout(tmp_path, "files: prices.parquet", tables), project_dir)
    expected = []
    for day in days:
        known = day
        while known.isoweekday() > 5:
            known -= dt.timedelta(days=1)
        for _ in range(4):
            known += dt.timedelta(days=3 if known.isoweekday() == 5 else 1)
        expected.append((day, dt.datetime.combine(known, dt.time(10))))
    found = _rows(
        warehouse_path, "select trade_date, available_at from raw.short_positions order by 1"
    )
    assert found == expected


def test_command_prints_counts_and_reasons(
    tmp_path: Path, project_dir: Path, folder: Path, market: str
) -> None:
    (folder / "names.csv").write_text("code,name\nBHP,x\nB HP,y\n", encoding="utf-8")
    layout = _layout(tmp_path, "files: prices.parquet", SECURITIES)
    args = ["--project-dir", str(project_dir), "load", str(folder), "--layout", layout]
    result = CliRunner().invoke(main, [*args, "--raw-schema", "other"])
    assert result.exit_code == 0, result.output
    assert result.stdout == textwrap.dedent(
        """\
        table       file            read  loaded  unchanged  rejected
        prices      prices.parquet     3       3          0         0
        securities  names.csv          2       1          0         1

        Rejected rows are in rejected_rows. Most frequent reasons:
          securities: 1 x symbol: not a symbol
        """
    )
    assert result.stderr.splitlines() == [
        "prices: 3 read, 3 loaded, 0 unchanged, 0 rejected",
        "securities: 2 read, 1 loaded, 0 unchanged, 1 rejected",
    ]


@pytest.mark.parametrize(
    ("name", "settings", "encode"),
    [
        ("prices.csv.gz", "", lambda text: gzip.compress(text.encode())),
        ("prices.csv", "csv: {encoding: utf-16}", lambda text: text.encode("utf-16")),
        ("prices.csv", "csv: {skip: 2}", lambda text: f"Title, with a comma\n\n{text}".encode()),
        ("prices.csv", "csv: {quote: '~'}", lambda text: text.replace("BHP", "~BHP~").encode()),
        (
            "prices.csv",
            "csv: {names: [code, date, open, high, low, close, volume]}",
            lambda text: text.partition("\n")[2].encode("utf-8-sig"),
        ),
        (
            "prices.csv",
            "csv: {encoding: latin-1}",
            lambda text: text.replace("volume", "volume,,close").replace("5\n", "5,,9\n").encode(),
        ),
    ],
)
def test_forms_of_text_files(
    tmp_path: Path,
    project_dir: Path,
    warehouse_path: Path,
    folder: Path,
    name: str,
    settings: str,
    encode: Callable[[str], bytes],
) -> None:
    text = "code,date,open,high,low,close,volume\nBHP,2024-01-02,1,3,1,2,5\n"
    (folder / name).write_bytes(encode(text))
    layout = _layout(tmp_path, f"files: {name}\n      {settings or 'optional: false'}")
    assert _total(load(folder, layout, project_dir)) == (1, 1, 0, 0)
    assert _rows(warehouse_path, "select symbol, open, close from raw.prices") == [("BHP", 1, 2)]


def test_files_of_different_columns(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    _parquet(folder / "a.parquet", [_price("BHP", "2024-01-02")])
    _parquet(folder / "b.parquet", [_price("CBA", "2024-01-02", extra="x", volume=7)])
    layout = _layout(tmp_path, "files: '*.parquet'")
    assert _total(load(folder, layout, project_dir)) == (2, 2, 0, 0)
    row = _price("ZIP", "2024-01-02")
    del row["close"]
    _parquet(folder / "c.parquet", [row])
    with pytest.raises(AsxwError, match=r"c\.parquet has no column close"):
        load(folder, layout, project_dir)
    with_query = _layout(tmp_path, "files: '*.parquet'\n      query: from input")
    with pytest.raises(AsxwError, match="its files differ in their columns"):
        load(folder, with_query, project_dir)


def test_rows_in_the_layout(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    tables = """
  symbol_changes:
    - rows:
        - {was: OLD, now: NEW, day: 2024-01-02}
        - {was: OLD, day: 2024-01-03}
      columns: {old_symbol: was, new_symbol: now, effective_on: day}
"""
    layout = _layout(tmp_path, "files: prices.parquet", tables)
    assert _total(load(folder, layout, project_dir), "symbol_changes") == (2, 1, 0, 1)
    assert _rows(warehouse_path, "select old_symbol, effective_on from raw.symbol_changes") == [
        ("OLD", dt.date(2024, 1, 2))
    ]
    assert _reasons(warehouse_path, "symbol_changes") == {"new_symbol: missing": 1}


def test_wrong_sql_is_named(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    def attempt(old: str, new: str, more: str = "") -> str:
        columns = PRICE_COLUMNS.replace(old, new)
        source = f"files: prices.parquet{more}"
        with pytest.raises(AsxwError) as error:
            load(folder, _layout(tmp_path, source, columns=columns), project_dir)
        assert "layout.yml, prices, prices.parquet" in str(error.value)
        return str(error.value)

    assert "belong into the input's query" in attempt("open: open", "open: lag(open) over ()")
    assert "nofunction" in attempt("open: open", "open: nofunction(open)")
    assert "syntax error" in attempt("open: open", "open: open +")
    assert "reject: open +" in attempt("", "", "\n      reject: {when: open +, reason: x}")
    assert "merged_when: 'a'" in attempt("", "", "\n      merged_when: \"'a' + code\"")
    assert "query" in attempt("", "", "\n      query: select input.* from")
    unknown = _layout(
        tmp_path, "files: prices.parquet\n      reject: {when: nothing > 1, reason: x}"
    )
    with pytest.raises(AsxwError, match=r"no column nothing.*prices\.reject"):
        load(folder, unknown, project_dir)


def test_announcements_in_any_form(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path, market: str
) -> None:
    """Times with a zone become local ones; whole numbers and flags are read from text."""
    tables = """
  announcements:
    - files: news.parquet
      columns:
        {symbol: code, announced_at: at, headline: title, sequence: 1, pages: pages,
         price_sensitive: flag}
"""
    utc = dt.datetime(2024, 1, 1, 22, 30, tzinfo=dt.UTC)
    cells = [("1", "Y"), ("2.0", "false"), ("1.5", "no"), ("-1", "1"), ("NA", "perhaps")]
    _parquet(
        folder / "news.parquet",
        [
            {"code": f"A{n}", "at": utc, "title": "NA", "pages": pages, "flag": flag}
            for n, (pages, flag) in enumerate(cells)
        ]
        + [{"code": "B", "at": utc, "title": " ", "pages": None, "flag": None}],
    )
    layout = _layout(tmp_path, "files: prices.parquet", tables)
    assert _total(load(folder, layout, project_dir), "announcements") == (6, 2, 0, 4)
    assert _rows(
        warehouse_path,
        "select announced_at, headline, pages, price_sensitive from raw.announcements order by 3",
    ) == [
        (dt.datetime(2024, 1, 2, 9, 30), "NA", 1, True),
        (dt.datetime(2024, 1, 2, 9, 30), "NA", 2, False),
    ]
    assert _reasons(warehouse_path, "announcements") == {
        "pages: not a whole number": 1,
        "pages: negative": 1,
        "price_sensitive: not true or false": 1,
        "headline: missing": 1,
    }


def test_worked_example_of_the_documentation(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    text = (PROJECT / "docs" / "load.md").read_text(encoding="utf-8")
    (layout,) = [block for block in text.split("```yaml\n")[1:] if "name: acme" in block]
    (data,) = [block for block in text.split("```\n") if block.startswith("End of day")]
    (tmp_path / "acme.yml").write_text(layout.split("```")[0], encoding="utf-8")
    (folder / "eod_20250106.csv").write_text(data, encoding="utf-8")
    names = "Code,Company,Type\nBHP,Soci\u00e9t\u00e9,Share\n".encode("cp1252")
    (folder / "names.csv").write_bytes(names)
    result = load(folder, str(tmp_path / "acme.yml"), project_dir)
    assert [(c.table, c.loaded, c.rejected) for c in result.counts] == [
        ("prices", 1, 0),
        ("securities", 1, 0),
    ]
    assert _rows(warehouse_path, "select open, close, volume from raw.prices") == [
        (40.1, 40.41, 7_204_118.0)
    ]
    assert _rows(warehouse_path, "select name, kind, sector from raw.securities") == [
        ("Soci\u00e9t\u00e9", "equity", None)
    ]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["asx", "us"])
def test_real_data(project_dir: Path, warehouse_path: Path, real_data: Path, name: str) -> None:
    """Everything read is accounted for, in the load's counts and in the tables themselves."""
    first = load(real_data / name, name, project_dir)
    stored = Counter(
        dict(
            _rows(
                warehouse_path,
                "select table_name, sum(rows_loaded)::bigint from raw.load_log group by 1",
            )
        )
    )
    for table in {c.table for c in first.counts}:
        read, loaded, unchanged, rejected = _total(first, table)
        assert read > 0
        assert unchanged == 0
        assert stored[table] == loaded
        assert sum(_reasons(warehouse_path, table).values()) == rejected
    assert _total(first)[3] == 0
    second = load(real_data / name, name, project_dir)
    for before, after in zip(first.counts, second.counts, strict=True):
        assert (after.read, after.loaded) == (before.read, 0)
        assert (after.unchanged, after.rejected) == (before.loaded, before.rejected)
