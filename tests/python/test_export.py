"""The exported panel and its manifest agree, and the same panel gives the same bytes."""

from __future__ import annotations

import hashlib
import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from panel_fixture import FEATURES, make_market, make_project, write_market

from ml.cli import main
from ml.export import appearing
from ml.warehouse import open_warehouse

MARKET = make_market(20, 300)


def export(project, *arguments):
    return CliRunner().invoke(main, ["--project-dir", str(project), "export", *arguments])


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "p", MARKET)


def test_files_hold_the_panel_and_the_manifest_says_so(project):
    done = export(project)
    assert done.exit_code == 0, done.output
    expected = MARKET.panel.sort_by([("trade_date", "ascending"), ("symbol", "ascending")])
    last = expected.column("trade_date")[-1].as_py()
    dated = project / "outputs" / f"featureset_{last}.parquet"
    latest = project / "outputs" / "featureset_latest.parquet"
    assert sorted(p.name for p in (project / "outputs").iterdir()) == sorted(
        [dated.name, latest.name, "featureset_latest.json"]
    )
    assert dated.read_bytes() == latest.read_bytes()
    table = pq.read_table(latest)
    assert table.to_pydict() == expected.to_pydict()
    assert pq.ParquetFile(latest).metadata.row_group(0).column(0).compression == "SNAPPY"

    manifest = json.loads((project / "outputs" / "featureset_latest.json").read_text())
    assert manifest["file"] == dated.name
    assert manifest["sha256"] == hashlib.sha256(dated.read_bytes()).hexdigest()
    assert manifest["rows"] == table.num_rows
    assert manifest["symbols"] == len(set(table.column("symbol").to_pylist()))
    assert manifest["columns"] == table.column_names
    assert manifest["first_trade_date"] == str(table.column("trade_date")[0])
    assert manifest["last_trade_date"] == str(last)
    assert tuple(manifest["coverage"]) == FEATURES
    for feature, share in manifest["coverage"].items():
        known = table.num_rows - table.column(feature).null_count
        assert share == known / table.num_rows


def test_the_same_panel_gives_the_same_bytes(project, tmp_path):
    assert export(project, "--out", str(tmp_path / "a")).exit_code == 0
    with open_warehouse(project) as warehouse:
        warehouse.execute(
            "create or replace table intermediate.int_training_panel as "
            "select * from intermediate.int_training_panel order by random()"
        )
    assert export(project, "--out", str(tmp_path / "b")).exit_code == 0
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_failed_export_leaves_the_previous_one(project):
    assert export(project).exit_code == 0
    before = {p.name: p.read_bytes() for p in (project / "outputs").iterdir()}
    with open_warehouse(project) as warehouse:
        warehouse.execute("delete from intermediate.int_training_panel")
    done = export(project)
    assert done.exit_code == 1 and "is empty" in done.stderr
    assert {p.name: p.read_bytes() for p in (project / "outputs").iterdir()} == before


def test_two_jobs_write_beside_each_other(tmp_path):
    path = tmp_path / "f.txt"
    with appearing(path) as first:
        first.write_text("first, half")
        with appearing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        first.write_text("first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_newer_panel_adds_a_dated_file(project):
    assert export(project).exit_code == 0
    write_market(project / "warehouse.duckdb", make_market(20, 310))
    assert export(project).exit_code == 0
    names = {p.name for p in (project / "outputs").iterdir()}
    assert len(names) == 4
    manifest = json.loads((project / "outputs" / "featureset_latest.json").read_text())
    latest = (project / "outputs" / "featureset_latest.parquet").read_bytes()
    assert manifest["sha256"] == hashlib.sha256(latest).hexdigest()


def test_without_a_warehouse_the_error_says_so(project):
    (project / "warehouse.duckdb").unlink()
    done = export(project)
    assert done.exit_code == 1 and "dbt build" in done.stderr
