"""SQL of a layout reads the delivered rows; it runs no other statement, reaches no other file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ingest.layout_sql import expression_problem, query_problem
from ingest.loader import load
from ml.errors import AsxwError

LAYOUT = """
name: acme
timezone: Australia/Sydney
decision_time: "16:15:00"
{top}
tables:
  prices:
    - files: "*.csv"
{more}
      columns:
        symbol: symbol
        trade_date: date
        available_at: at_decision_time(trade_date)
        open: {open}
        close: close
        volume: volume
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    text = "symbol,date,open,close,volume\nBHP,2025-01-06,1,2,5\nCBA,2025-01-06,n/a,2,5\n"
    (path / "x.csv").write_text(text, encoding="utf-8")
    return path


def _layout(tmp_path: Path, more: str = "", open_: str = "open", top: str = "") -> str:
    path = tmp_path / "acme.yml"
    lines = f"      {more}" if more else ""
    path.write_text(LAYOUT.format(top=top, more=lines, open=open_), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("place", "more", "open_"),
    [
        ("query", "query: \"select * from input; copy (select 1) to '{out}'\"", "open"),
        (
            "query",
            "query: \"select * from input; attach '{out}' as w; create table w.t (a int)\"",
            "open",
        ),
        (
            "query",
            'query: "with x as (delete from __malformed returning *) select input.* from input"',
            "open",
        ),
        (
            "reject",
            "reject: {{when: \"false)::boolean; copy (select 1) to '{out}'; select (false\", "
            "reason: x}}",
            "open",
        ),
        ("merged_when", "merged_when: \"false); copy (select 1) to '{out}'; select (1\"", "open"),
        ("open", "", "\"1}})) as v; copy (select 1) to '{out}'; select ({{'v': (1\""),
        (
            "open",
            "query: select * from input",
            "\"1) as v from input; copy (select 1) to '{out}'; select (1\"",
        ),
        ("open", "", '"1) as v, (2"'),
    ],
)
def test_a_layout_runs_no_further_statement(
    tmp_path: Path,
    project_dir: Path,
    folder: Path,
    place: str,
    more: str,
    open_: str,
) -> None:
    out = tmp_path / "written"
    layout = _layout(tmp_path, more.format(out=out), open_.format(out=out))
    with pytest.raises(AsxwError, match=rf"acme\.yml, prices, \*\.csv: {place}: "):
        load(folder, layout, project_dir)
    assert not out.exists()


def test_a_layout_reaches_no_file_outside_the_folder(
    tmp_path: Path, project_dir: Path, folder: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n", encoding="utf-8")
    for read in (f"read_csv('{secret}')", f"read_text('{secret}')", f"'{secret}'"):
        query = f'query: "select input.* from input, (select count(*) from {read})"'
        with pytest.raises(AsxwError, match=r"acme\.yml, prices, \*\.csv: query: "):
            load(folder, _layout(tmp_path, query), project_dir)


def test_files_may_be_links(
    tmp_path: Path, project_dir: Path, warehouse_path: Path, folder: Path
) -> None:
    """To a file, to a folder of files, and with a name that a glob would take for a pattern."""
    there = tmp_path / "there"
    (there / "deep").mkdir(parents=True)
    text = (folder / "x.csv").read_text(encoding="utf-8")
    for name in ("a.csv", "deep/b.csv"):
        (there / name).write_text(text.replace("BHP", name[-5].upper()), encoding="utf-8")
    (folder / "l[1].csv").symlink_to(there / "a.csv")
    (folder / "more").symlink_to(there / "deep")
    layout = _layout(tmp_path).replace("acme.yml", "linked.yml")
    text = Path(_layout(tmp_path)).read_text(encoding="utf-8")
    inputs = text.partition("  prices:\n")[2].replace('"*.csv"', "more/*.csv")
    Path(layout).write_text(text + inputs, encoding="utf-8")
    by_link = tmp_path / "by_link"
    by_link.symlink_to(folder)
    load(by_link, layout, project_dir)
    with duckdb.connect(str(warehouse_path), read_only=True) as connection:
        found = connection.execute("select symbol from raw.prices order by 1").fetchall()
    assert found == [("A",), ("B",), ("BHP",), ("CBA",)]


@pytest.mark.parametrize(
    "sql",
    ["1), (2", "1) union all (select 1", "1) from x where (true", "1) limit (1", "1)x, (1", "a +"],
)
def test_what_is_no_expression(sql: str) -> None:
    with duckdb.connect(":memory:") as connection:
        assert expression_problem(connection, sql) is not None


@pytest.mark.parametrize(
    "sql",
    ["a", "case when a then 1 end", "a in (select b from l)", "lag(a) over ()", "{'a': 1}['a']"],
)
def test_what_is_an_expression(sql: str) -> None:
    with duckdb.connect(":memory:") as connection:
        assert expression_problem(connection, sql) is None


def test_what_is_a_query() -> None:
    with duckdb.connect(":memory:") as connection:
        for good in (
            "from input",
            "with a as (select 1) select * from a union all select 2",
            "with recursive t as (select 1 as a union all select a + 1 from t where a < 3) from t",
        ):
            assert query_problem(connection, good) is None
        for bad in ("", "select 1; select 2", "drop table input", "call pragma_version()"):
            assert query_problem(connection, bad) is not None


@pytest.mark.parametrize(("tokens", "loaded", "rejected"), [("", 2, 0), ("null_tokens: []", 1, 1)])
def test_a_layout_without_null_tokens(
    tmp_path: Path,
    project_dir: Path,
    warehouse_path: Path,
    folder: Path,
    tokens: str,
    loaded: int,
    rejected: int,
) -> None:
    """Numbers and dates are read, and `n/a` is no number any more."""
    total = load(folder, _layout(tmp_path, top=tokens), project_dir).total("prices")
    assert (total.loaded, total.rejected) == (loaded, rejected)
    with duckdb.connect(str(warehouse_path), read_only=True) as connection:
        found = connection.execute("select open, close from raw.prices order by symbol").fetchall()
    assert found[0] == (1.0, 2.0)
