"""Reading of files as vendors deliver them: no row is lost, and a row depends on its file alone."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ingest import reader, text_files
from ingest.layouts import CsvFormat, FileSet
from ingest.loader import LoadResult, load
from ingest.reader import Staging
from ml.cli import main
from ml.errors import AsxwError

HEADER = "code,date,open,high,low,close,volume\n"
COLUMNS = """
        symbol: code
        trade_date: date
        available_at: at_decision_time(trade_date)
        open: open
        high: high
        low: low
        close: close
        volume: volume
"""
NAMES = "names: [code, date, open, high, low, close, volume]"


def _line(code: str, close: str = "11") -> str:
    return f"{code},2024-01-02,10,12,9,{close},100\n"


class Loader:
    """Files of one folder, loaded into a warehouse of the test's own."""

    def __init__(self, tmp_path: Path, project_dir: Path) -> None:
        self.folder = tmp_path / "in"
        self.folder.mkdir()
        self.layout = tmp_path / "layout.yml"
        self.warehouse = tmp_path / "warehouse.duckdb"
        self.project_dir = project_dir

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def parquet(self, name: str, **columns: object) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {name: [10.0] for name in ("open", "high", "low", "close", "volume")}
        pq.write_table(pa.table({"code": ["BHP"], **numbers, **columns}), path)
        return path

    def load(self, files: str = "*.csv", settings: str = "", columns: str = COLUMNS) -> LoadResult:
        more = f"      {settings}\n" if settings else ""
        self.layout.write_text(
            "name: test\ntimezone: Australia/Sydney\ndecision_time: '16:15:00'\n"
            f"tables:\n  prices:\n    - files: '{files}'\n{more}      columns:{columns}",
            encoding="utf-8",
        )
        result = load(self.folder, str(self.layout), self.project_dir)
        total = result.total("prices")
        assert total.read == total.loaded + total.unchanged + total.rejected
        return result

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def symbols(self) -> list[str]:
        return [row[0] for row in self.rows("select symbol from raw.prices order by 1")]

    def rejected(self) -> list[tuple[int, str, str]]:
        found = self.rows("select row_number, row_json, reason from raw.rejected_rows order by 1")
        return [(number, json.loads(row).get("line", row), why) for number, row, why in found]


@pytest.fixture
def files(tmp_path: Path, project_dir: Path) -> Loader:
    return Loader(tmp_path, project_dir)


def test_a_folder_named_column_value_changes_no_column(files: Loader) -> None:
    files.parquet("date=2001-12-31/close=7/a.parquet", date=[dt.date(2024, 1, 2)])
    files.load("**/*.parquet")
    files.write("code=X/date=2001-12-31/a.csv", HEADER + _line("CBA"))
    files.load("**/*.csv")
    day = dt.date(2024, 1, 2)
    assert files.rows("select symbol, trade_date, close from raw.prices order by 1") == [
        ("BHP", day, 10.0),
        ("CBA", day, 11.0),
    ]


@pytest.mark.parametrize(
    ("above", "skip"),
    [
        ('"Prices\nat the close",,,,,,\n', 2),
        ('"Prices,,,,,,\n', 1),
        ('"Prices"x,,,,,,\n', 1),
        ('Pipes of 12",,,,,,\n"all"\n', 2),
        ("\n\n", 2),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_lines_passed_over(files: Loader, above: str, skip: int, encoding: str) -> None:
    files.write("a.csv", above + HEADER + _line("A") + _line("B") + "C\n")
    files.load(settings=f"csv: {{skip: {skip}, encoding: {encoding}}}")
    assert files.symbols() == ["A", "B"]
    assert files.rejected() == [(3, "C", "malformed line: too few fields")]


def test_lines_passed_over_without_a_header(files: Loader) -> None:
    files.write("a.csv", '"Prices,,,,,,\n' + _line("A") + _line("B"))
    files.load(settings=f"csv: {{skip: 1, {NAMES}}}")
    assert files.symbols() == ["A", "B"]


def test_header_over_several_lines(files: Loader) -> None:
    header = HEADER.replace("open", '"open\n(first, of the day)"').strip()
    files.write("a.csv", f"{header},note\n" + _line("A", "x") + _line("B").strip() + ",\n")
    files.write("b.csv", HEADER + _line("C"))
    with pytest.raises(AsxwError, match=r"a\.csv has no column open"):
        files.load()
    files.write("a.csv", HEADER.strip() + ',"a\nnote"\n' + _line("A") + _line("B").strip() + ",\n")
    files.load()
    assert files.symbols() == ["B", "C"]
    assert files.rejected() == [(1, _line("A").strip(), "malformed line: too few fields")]


@pytest.mark.parametrize("note", ['"note', '"note"s'])
def test_header_with_an_open_quote(files: Loader, note: str) -> None:
    files.write("a.csv", f"{HEADER.strip()},{note}\n" + _line("A") + _line("B"))
    with pytest.raises(AsxwError, match=r"a\.csv has a header line whose quotes .*line 1"):
        files.load()


def test_unclosed_quote_costs_its_own_line(files: Loader) -> None:
    bad = ['"B,2024-01-02,10,12,9,11,100', 'E,2024-01-02,10,12,9,"11,100', 'F,"2024', '"H"x,1']
    lines = [_line("A"), bad[0] + "\n", _line("C"), _line("D"), bad[1] + "\n", bad[2] + "\n"]
    lines += [_line("G"), bad[3] + "\n", _line("I", "x"), _line("J")]
    files.write("a.csv", HEADER + "".join(lines))
    files.write("b.csv", HEADER + _line("K"))
    counts = {c.file: (c.read, c.loaded, c.rejected) for c in files.load().counts}
    assert counts == {"a.csv": (10, 5, 5), "b.csv": (1, 1, 0)}
    assert files.symbols() == ["A", "C", "D", "G", "J", "K"]
    found = files.rejected()
    assert [(n, line) for n, line, _ in found[:4]] == [
        (2, bad[0]),
        (5, bad[1]),
        (6, bad[2]),
        (8, bad[3]),
    ]
    assert [why for *_, why in found] == [text_files.UNCLOSED] * 3 + [
        text_files.STRAY,
        "close: not a number",
    ]
    assert found[4][0] == 9
    files.load()
    assert len(files.rejected()) == 5


def test_unclosed_quote_at_the_end_of_the_file(files: Loader) -> None:
    files.write("a.csv", HEADER + _line("A") + '"B,2024-01-02')
    files.load()
    assert files.symbols() == ["A"]
    assert files.rejected() == [(2, '"B,2024-01-02', text_files.UNCLOSED)]


def test_quoted_line_breaks_beside_an_unclosed_quote(files: Loader) -> None:
    note = '{},2024-01-02,10,12,9,11,100,"said ""so""\r\n\n, twice" \n'
    wide = note.replace("\n, twice", "\nX,2024-01-02,10,12,9,11,100,0,\n")
    files.write(
        "a.csv", HEADER.strip() + ",note\n" + note.format("A") + note.format("Café") + '"B\n'
        + wide.format("C").replace(',"said', ',1,"said')
    )  # fmt: skip
    files.load(settings="reject: {when: \"code = 'A'\", reason: note}")
    (first, row, reason), *rest = files.rejected()
    assert (first, reason) == (1, "note")
    assert json.loads(row)["note"] == 'said "so"\r\n\n, twice'
    assert files.symbols() == ["CAFÉ", "X"]
    assert [(n, line, why) for n, line, why in rest] == [
        (3, '"B', text_files.UNCLOSED),
        (4, 'C,2024-01-02,10,12,9,11,100,1,"said ""so""', text_files.UNCLOSED),
        (7, '" ', text_files.UNCLOSED),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_between_quotes(files: Loader, seed: int) -> None:
    """Lines damaged anywhere: the good ones are loaded, and each bad one is kept as it is."""
    chance = random.Random(seed)
    kinds = ['"{}', '{},"2024-01-02', '{},2024-01-02,1,1,1,"1,1', '"{}"x,1', '{},"""', '{}\xff,"']
    lines, good = [], []
    for number in range(400):
        code = f"S{number}"
        if chance.random() < 0.1:
            lines.append(chance.choice(kinds).format(code))
        else:
            good.append(code)
            lines.append(_line(code).strip())
    ends = chance.choice([["\n"], ["\r\n"], ["\n", "\r\n"]])
    text = HEADER + "".join(line + chance.choice(ends) for line in lines)
    files.write("a.csv", text.encode("latin-1"))
    total = files.load().total("prices")
    assert (total.read, total.loaded) == (400, len(good))
    assert set(files.symbols()) == set(good)
    kept = {number: line for number, line, _ in files.rejected()}
    bad = {n: line for n, line in enumerate(lines, 1) if line.split(",")[0] not in good}
    assert {n: line.replace("\ufffd", "\xff") for n, line in kept.items()} == bad


def test_unclosed_quote_in_a_large_file(tmp_path: Path) -> None:
    """Of a swallowed part of several megabytes DuckDB keeps no text."""
    rows = 400_000
    with (tmp_path / "a.csv").open("w") as file:
        file.write('code,text\nA,1\nB,"2\n')
        file.write(("x" * 80 + ",3\n") * rows)
    with Staging(tmp_path, "UTC") as staging:
        source = staging.inspect(FileSet("a.csv", "csv", CsvFormat()), "test")
        staging.load(source, "__source_0")
        assert staging.number("select count(*) from __source_0") == rows + 1
        assert staging.rows("select position, line from __malformed") == [(2, 'B,"2')]


def test_line_ends_of_both_kinds(files: Loader) -> None:
    text = HEADER + _line("A") + _line("B").replace("\n", "\r\n") + _line("C") + "D\r\n"
    files.write("a.csv", HEADER + _line("E"))
    files.write("b.csv", text)
    files.write("c.csv", HEADER.replace("\n", "\r\n") + _line("F"))
    counts = {c.file: (c.read, c.loaded) for c in files.load().counts}
    assert counts == {"a.csv": (1, 1), "b.csv": (4, 3), "c.csv": (1, 1)}
    assert files.symbols() == ["A", "B", "C", "E", "F"]
    assert files.rejected() == [(4, "D", "malformed line: too few fields")]


def test_columns_in_another_order(files: Loader) -> None:
    files.write("a.csv", HEADER + _line("A"))
    files.write(
        "b.csv",
        HEADER.replace("code,date", "date,code")
        + _line("A").replace("A,2024-01-02", "2024-01-02,B"),
    )
    files.load()
    assert files.symbols() == ["A", "B"]


def test_good_files_are_read_once(files: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr(reader, "copy_rows", never)
    monkeypatch.setattr(reader, "copy_repaired", never)
    title = '"Prices, ""raw"" ",,\n'
    files.write("a.csv", title + HEADER + _line("A") + '"B\nC",2024\n'[5:] + _line('"D"'))
    files.load(settings="csv: {skip: 1}")
    assert files.symbols() == ["A", "D"]


def test_the_file_that_fails_is_named(files: Loader) -> None:
    for number in range(5):
        files.parquet(f"f{number}.parquet", code=[f"S{number}" * 50], date=[dt.date(2024, 1, 2)])
    path = files.folder / "f4.parquet"
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    with pytest.raises(AsxwError, match=r"^f4\.parquet cannot be read: .*deliver it again"):
        files.load("*.parquet")


def _time(hour: int, zone: str | None) -> pa.Array:
    return pa.array([dt.datetime(2024, 1, 2, hour)], pa.timestamp("us", tz=zone))


def test_a_file_is_judged_by_its_own_types(files: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value as from a file alone, whatever the types beside it and the machine's zone."""
    monkeypatch.setenv("TZ", "America/New_York")
    days = {
        "naive": _time(20, None),
        "zoned": _time(20, "UTC"),
        "date": pa.array([dt.date(2024, 1, 2)]),
        "text": pa.array(["2024-01-02 20:00:00"]),
        "number": pa.array([20240102]),
        "none": pa.nulls(1),
    }
    for name, values in days.items():
        files.parquet(f"{name}.parquet", code=[name], date=values, close=[10.5])
    files.parquet("whole.parquet", code=[7], date=days["date"], close=[10], note=["only here"])
    files.load("*.parquet")
    day, next_day = dt.date(2024, 1, 2), dt.date(2024, 1, 3)
    assert files.rows("select symbol, trade_date from raw.prices order by 1") == [
        ("7", day),
        ("DATE", day),
        ("NAIVE", day),
        ("TEXT", day),
        ("ZONED", next_day),
    ]
    reasons = files.rows("select file_name, reason from raw.rejected_rows order by 1")
    assert reasons == [
        ("none.parquet", "trade_date: missing"),
        ("number.parquet", "trade_date: type BIGINT is not a date"),
    ]


def test_expressions_see_the_market_time(files: Loader) -> None:
    """A cast of a time with a zone does not ask the machine what time it is there."""
    files.parquet("a.parquet", date=_time(20, "UTC"))
    files.load("*.parquet", columns=COLUMNS.replace("date: date", "date: cast(date as date)"))
    assert files.rows("select trade_date from raw.prices") == [(dt.date(2024, 1, 3),)]


def test_types_that_differ_under_a_query(files: Loader) -> None:
    files.parquet("a.parquet", date=_time(1, None))
    files.parquet("b.parquet", date=_time(1, "UTC"))
    query = "query: select * from input"
    with pytest.raises(AsxwError, match=r"column date is TIMESTAMP in a\.parquet and TIMESTAMP W"):
        files.load("*.parquet", query)
    files.parquet("b.parquet", code=["CBA"], date=_time(1, None), volume=[100], open=pa.nulls(1))
    files.load("*.parquet", query)
    assert files.symbols() == ["BHP", "CBA"]
    files.write("l.csv", HEADER + _line("A"))
    with pytest.raises(AsxwError, match=r"lookup k: column volume is DOUBLE in a\.parquet"):
        files.parquet("b.parquet", date=_time(1, None), volume=["x"])
        files.load("l.csv", "lookups: {k: {files: '*.parquet'}}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.symlink_to("nowhere"), "b.csv is a link to a file that does not exist"),
        (lambda p: p.symlink_to("b.csv"), "b.csv is a link to a file that does not exist"),
        (os.mkfifo, "b.csv is no regular file"),
        (Path.mkdir, "b.csv is a folder, not a file"),
    ],
)
def test_what_matches_and_is_no_file(
    files: Loader, make: Callable[[Path], object], message: str
) -> None:
    files.write("a.csv", HEADER + _line("A"))
    make(files.folder / "b.csv")
    with pytest.raises(AsxwError, match=message):
        files.load()


def test_a_folder_beside_files_of_any_name(files: Loader) -> None:
    files.write("a", HEADER + _line("A"))
    (files.folder / "more").mkdir()
    files.load("*")
    assert files.symbols() == ["A"]


def test_file_name_that_is_no_text(files: Loader) -> None:
    path = Path(os.fsdecode(os.fsencode(files.folder) + b"/pr\xff.csv"))
    path.write_text(HEADER + _line("A"))
    with pytest.raises(AsxwError, match=r"pr\\xff\.csv is not UTF-8\. Rename it"):
        files.load()


@pytest.mark.parametrize(
    ("name", "content", "csv"),
    [
        ("a.csv.gz", gzip.compress(HEADER.encode() * 99)[:-9], f"encoding: cp1252, {NAMES}"),
        ("a.csv.gz", HEADER.encode(), f"encoding: cp1252, {NAMES}"),
        ("a.csv.gz", HEADER.encode(), NAMES),
        ("a.csv", (HEADER + _line("A")).encode("utf-16")[:-1], "encoding: utf-16"),
    ],
    ids=["cut short", "no gzip", "no gzip, utf-8", "half a character"],
)
def test_damaged_files(files: Loader, name: str, content: bytes, csv: str) -> None:
    files.write(name, content)
    with pytest.raises(AsxwError, match=rf"^{name} cannot be read: .* deliver it again"):
        files.load("a.csv*", f"csv: {{{csv}}}")


@pytest.mark.parametrize("csv", [f"encoding: cp1252, {NAMES}", "encoding: cp1252", "skip: 0"])
def test_file_without_permission(files: Loader, monkeypatch: pytest.MonkeyPatch, csv: str) -> None:
    path = files.write("a.csv", HEADER + _line("A"))

    opening = Path.open

    def refuse(opened: Path, *args: Any, **kwargs: Any) -> Any:
        if opened == path:
            raise PermissionError(13, "Permission denied", str(opened))
        return opening(opened, *args, **kwargs)

    # as for an account that is not root
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AsxwError, match=r"permission denied. Give the account") as caught:
        files.load("*.csv", f"csv: {{{csv}}}")
    assert "deliver it again" not in str(caught.value)


def test_errors_are_one_line(files: Loader) -> None:
    files.write("b.csv.gz", "no gzip")
    with pytest.raises(AsxwError):
        files.load("*.gz", f"csv: {{{NAMES}, encoding: cp1252}}")
    args = ["--project-dir", str(files.project_dir), "load", str(files.folder)]
    result = CliRunner().invoke(main, [*args, "--layout", str(files.layout)])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "b.csv.gz cannot be read: Not a gzipped file" in result.stderr


@pytest.mark.parametrize("pattern", ["**/*.csv", "*/*.csv", "{board}/{symbol}.csv"])
def test_a_subfolder_that_may_not_be_read_is_an_error(pattern: str) -> None:
    """Its files would be missing from the counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for part in ("main", "closed"):
            (folder / part).mkdir()
            (folder / part / "AAA.csv").write_text(HEADER)
        assert len(reader.find_files(folder, pattern)) == 2
        (folder / "closed").chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # nobody: root may read everything
        try:
            with pytest.raises(AsxwError, match=r"closed cannot be read: Permission denied"):
                reader.find_files(folder, pattern)
            assert len(reader.find_files(folder, "main/*.csv")) == 1
        finally:
            if root:
                os.seteuid(0)
            (folder / "closed").chmod(0o755)
