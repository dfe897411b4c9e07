"""An invented market and a real one never meet in one warehouse; status shows what there is."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from ingest.layouts import SHIPPED
from ml.cli import main

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume\n"


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
    (folder / "ABC.csv").write_text(f"{HEADER}2024-01-02,1,1.2,0.9,1.1,1.1,1000\n")
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


def prices_of(warehouse: Path) -> list[tuple[str, str]]:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = connection.execute("select symbol, source from raw.prices order by 1, 2")
        return [(str(symbol), str(source)) for symbol, source in found.fetchall()]


def own_layout(folder: Path, name: str, timezone: str) -> str:
    path = folder / f"{name}.yml"
    shipped = (SHIPPED / "symbol_csv.yml").read_text(encoding="utf-8")
    path.write_text(
        shipped.replace("name: symbol_csv", f"name: {name}").replace("Australia/Sydney", timezone)
    )
    return str(path)


def test_markets_of_two_time_zones_do_not_mix(
    project_dir: Path, warehouse_path: Path, tmp_path: Path, real_like: Path
) -> None:
    """Own layouts too, in both directions; two vendors of one market do mix."""
    here, there = "Australia/Sydney", "America/New_York"
    vendor = own_layout(tmp_path, "vendor", here)
    second = own_layout(tmp_path, "second", here)
    foreign = own_layout(tmp_path, "foreign", there)
    assert invoke(project_dir, "load", str(real_like), "--layout", vendor).exit_code == 0
    (real_like / "ABC.csv").rename(real_like / "XYZ.csv")
    assert invoke(project_dir, "load", str(real_like), "--layout", second).exit_code == 0
    assert prices_of(warehouse_path) == [("ABC", "vendor"), ("XYZ", "second")]
    refused = invoke(project_dir, "load", str(real_like), "--layout", foreign)
    assert refused.exit_code == 1
    for part in (f"second ({here}), vendor ({here})", f"foreign ({there})", "--set-aside"):
        assert part in refused.output
    assert prices_of(warehouse_path) == [("ABC", "vendor"), ("XYZ", "second")]

    arguments = ("load", str(real_like), "--layout", foreign, "--set-aside")
    assert invoke(project_dir, *arguments).exit_code == 0
    assert prices_of(warehouse_path) == [("XYZ", "foreign")]
    kept = warehouse_path.with_name("warehouse.second-vendor.duckdb")
    assert prices_of(kept) == [("ABC", "vendor"), ("XYZ", "second")]
    assert invoke(project_dir, "load", str(real_like), "--layout", vendor).exit_code == 1


def test_a_shipped_layouts_market_is_known_from_its_name(
    project_dir: Path, warehouse_path: Path, tmp_path: Path, real_like: Path
) -> None:
    """A warehouse from before time zones were kept."""
    assert invoke(project_dir, "load", str(real_like), "--layout", "symbol_csv").exit_code == 0
    with duckdb.connect(str(warehouse_path)) as connection:
        connection.execute("drop table raw.loaded_layouts")
    foreign = own_layout(tmp_path, "foreign", "America/New_York")
    refused = invoke(project_dir, "load", str(real_like), "--layout", foreign)
    assert refused.exit_code == 1 and "symbol_csv (Australia/Sydney)" in refused.output


@pytest.mark.parametrize("failure", ["no folder", "no such column", "damaged file"])
def test_a_load_that_fails_sets_nothing_aside(
    project_dir: Path,
    warehouse_path: Path,
    tmp_path: Path,
    real_like: Path,
    failure: str,
) -> None:
    """Found before the warehouse is touched, or half way through."""
    assert invoke(project_dir, "load", str(real_like), "--layout", "symbol_csv").exit_code == 0
    before = warehouse_path.read_bytes()
    folder = tmp_path / "next"
    layout = own_layout(tmp_path, "other", "America/New_York")
    if failure != "no folder":
        folder.mkdir()
        text = "Date,Open\n" if failure == "no such column" else HEADER
        with gzip.open(folder / "ABC.csv.gz", "wt") as file:
            file.write(
                text
                + "".join(f"20{n % 90 + 10}-01-0{n % 9 + 1},1,1,1,1,1,{n}\n" for n in range(99999))
            )
        if failure == "damaged file":
            whole = (folder / "ABC.csv.gz").read_bytes()
            (folder / "ABC.csv.gz").write_bytes(whole[: len(whole) // 2])
        path = Path(layout)
        path.write_text(path.read_text().replace("{symbol}.csv", "{symbol}.csv.gz"))
    failed = invoke(project_dir, "load", str(folder), "--layout", layout, "--set-aside")
    assert failed.exit_code == 1
    assert list(warehouse_path.parent.glob("*.duckdb*")) == [warehouse_path]
    assert warehouse_path.read_bytes() == before
    assert ("is warehouse.duckdb again" in failed.output) == (failure == "damaged file")


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
