"""An invented market and a real one never meet in one warehouse; status shows what there is."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from ml.cli import main


def invoke(project_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--project-dir", str(project_dir), *arguments])


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    out = tmp_path / "sample"
    done = CliRunner().invoke(
        main, ["sample-market", str(out), "--symbols", "5", "--sessions", "40"]
    )
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def real_like(tmp_path: Path) -> Path:
    folder = tmp_path / "vendor"
    folder.mkdir()
    (folder / "ABC.csv").write_text(
        "Date,Open,High,Low,Close,Adj Close,Volume\n2024-01-02,1,1.2,0.9,1.1,1.1,1000\n"
    )
    return folder


def test_an_invented_market_is_not_loaded_over_a_real_one(
    project_dir: Path, warehouse_path: Path, sample: Path, real_like: Path
) -> None:
    assert invoke(project_dir, "load", str(real_like), "--layout", "symbol_csv").exit_code == 0
    before = warehouse_path.read_bytes()
    refused = invoke(project_dir, "load", str(sample), "--layout", "sample")
    assert refused.exit_code == 1
    assert "symbol_csv" in refused.output and "--set-aside" in refused.output
    with duckdb.connect(str(warehouse_path), read_only=True) as connection:
        assert connection.execute("select count(*) from raw.prices").fetchall() == [(1,)]
    assert before


def test_set_aside_keeps_the_other_market_under_its_name(
    project_dir: Path, warehouse_path: Path, sample: Path, real_like: Path
) -> None:
    arguments = ("--layout", "symbol_csv")
    assert invoke(project_dir, "load", str(real_like), *arguments).exit_code == 0
    for layout, folder in (("sample", sample), ("symbol_csv", real_like), ("sample", sample)):
        done = invoke(project_dir, "load", str(folder), "--layout", layout, "--set-aside")
        assert done.exit_code == 0, done.output
    names = sorted(path.name for path in warehouse_path.parent.glob("*.duckdb"))
    assert names == [
        "warehouse.duckdb",
        "warehouse.sample.duckdb",
        "warehouse.symbol_csv.2.duckdb",
        "warehouse.symbol_csv.duckdb",
    ]
    aside = str(warehouse_path.with_name("warehouse.symbol_csv.duckdb"))
    with duckdb.connect(aside, read_only=True) as connection:
        assert connection.execute("select symbol from raw.prices").fetchall() == [("ABC",)]


def test_loading_the_same_market_again_sets_nothing_aside(
    project_dir: Path, warehouse_path: Path, real_like: Path
) -> None:
    arguments = ("load", str(real_like), "--layout", "symbol_csv", "--set-aside")
    assert invoke(project_dir, *arguments).exit_code == 0
    assert invoke(project_dir, *arguments).exit_code == 0
    assert list(warehouse_path.parent.glob("*.duckdb")) == [warehouse_path]


def test_status_names_the_database_and_the_next_command(
    project_dir: Path, warehouse_path: Path, real_like: Path
) -> None:
    missing = invoke(project_dir, "status")
    assert missing.exit_code == 1 and "load data" in missing.output
    assert invoke(project_dir, "load", str(real_like), "--layout", "symbol_csv").exit_code == 0
    shown = invoke(project_dir, "status")
    assert shown.exit_code == 0, shown.output
    assert str(warehouse_path) in shown.output
    assert "raw.prices" in shown.output and "asxw train" in shown.output
