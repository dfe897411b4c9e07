"""`asxw load` on Postgres ends in the same raw tables and counts as on DuckDB."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from postgres_fixture import PROJECT, Database

from ingest.loader import LoadResult, load
from ml.contract import read_contract
from ml.errors import AsxwError
from ml.warehouse import open_warehouse

pytestmark = pytest.mark.slow
CONTRACT = read_contract(PROJECT, "raw")
# written anew by every load
PASSING = {"loaded_at", "load_id", "replaced_at", "scored_at"}
PRICES = "code,date,open,high,low,close,volume\n"
LAYOUT = """
name: test
timezone: Australia/Sydney
decision_time: '16:15:00'
tables:
  prices:
    - files: prices.csv
      columns:
        symbol: code
        trade_date: date
        available_at: at_decision_time(trade_date)
        open: open
        high: high
        low: low
        close: close
        volume: volume
  securities:
    - files: names.csv
      columns: {symbol: code, name: name, sector: sector}
"""
FIRST = (
    PRICES + "BHP,2024-01-02,40,41,39,40.5,1000\nBHP,2024-01-03,40,41,39,40,900\n"
    "CBA,2024-01-02,100,99,101,100,5\nCBA,2024-01-03,100,101,99,x,5\nCBA,2024-01-04,1,2,1,1.1,7\n"
    "CBA,2024-01-04,1,2,1,1.1,7\nRIO,2024-01-02,1,2,1,0.1,-4\n"
)
SECOND = FIRST.replace("40.5,1000", "40.25,1000") + "NEW,2024-01-05,1,2,1,1.5,3\n"
THIRD = SECOND.replace("40.25,1000", "40.75,1000")
NAMES = "code,name,sector\nBHP,Big 'B' \"H\",Materials\nCBA,Bank,\n"


def loaded(folder: Path, target: str, prices: str, names: str, received: str) -> LoadResult:
    (folder / "layout.yml").write_text(LAYOUT)
    (folder / "prices.csv").write_text(prices)
    (folder / "names.csv").write_text(names)
    when = dt.datetime.fromisoformat(received)
    return load(folder, str(folder / "layout.yml"), PROJECT, target=target, received_at=when)


def contents(target: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of every raw table without the times of the load."""
    tables = {}
    with open_warehouse(PROJECT, target) as warehouse:
        for name, table in CONTRACT.items():
            columns = ", ".join(f'"{c.name}"' for c in table.columns if c.name not in PASSING)
            rows = warehouse.read_rows(f'select {columns} from raw."{name}"')
            tables[name] = sorted(map(without_times, rows), key=repr)
    return tables


def without_times(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A replaced row's JSON holds the time it had been loaded."""
    return tuple(
        cell.split('"loaded_at"')[0] if isinstance(cell, str) and '"loaded_at"' in cell else cell
        for cell in row
    )


def test_loads_corrections_and_repeats_end_alike_on_both(
    project_dir: Path, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in database.connection.environment(database.name).items():
        monkeypatch.setenv(name, value)
    steps = [
        (FIRST, NAMES, "2024-01-06 10:00"),
        (SECOND, NAMES.replace("Bank", "Commonwealth Bank"), "2024-01-07 10:00"),
        (SECOND, NAMES.replace("Bank", "Commonwealth Bank"), "2024-01-08 10:00"),
        (THIRD, NAMES.replace("Bank", "Commonwealth Bank"), "2024-01-09 10:00"),
        # a version that others have followed, at its own time and later
        (SECOND, NAMES.replace("Bank", "Commonwealth Bank"), "2024-01-07 10:00"),
        (SECOND, NAMES.replace("Bank", "Commonwealth Bank"), "2024-01-10 10:00"),
    ]
    for step in steps:
        results = [loaded(tmp_path, target, *step) for target in ("duckdb", "postgres")]
        assert results[0].counts == results[1].counts
        assert results[0].reasons == results[1].reasons
        assert contents("duckdb") == contents("postgres")
    assert results[1].total("prices").loaded == 0
    assert results[1].total("prices").unchanged == 4
    assert len(contents("postgres")["replaced_rows"]) == 1
    assert len(contents("postgres")["rejected_rows"]) == 4

    before = contents("postgres")
    late = SECOND.replace("40.25,1000", "39.5,1000")
    with pytest.raises(AsxwError, match="nothing was loaded"):
        loaded(tmp_path, "postgres", late, NAMES + "ZZZ,Z,\n", "2024-01-06 12:00")
    assert contents("postgres") == before


def test_a_failure_half_way_loads_nothing(
    project_dir: Path, tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in database.connection.environment(database.name).items():
        monkeypatch.setenv(name, value)
    loaded(tmp_path, "postgres", FIRST, NAMES, "2024-01-06 10:00")
    before = contents("postgres")
    with database.warehouse() as warehouse:
        # the table after prices refuses every row
        warehouse.execute(
            "alter table raw.securities add constraint shut check (name is null)not valid"
        )
    with pytest.raises(AsxwError, match="shut"):
        changed = NAMES.replace("Bank", "Bank of Australia")
        loaded(tmp_path, "postgres", SECOND, changed, "2024-01-07 10:00")
    assert contents("postgres") == before
