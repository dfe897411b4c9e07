"""The ledger of audits: rows are written as they are, and say which project they speak for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from ml.audit.record import AuditResult, data_name, now, record_audit
from ml.cli import main
from ml.project_state import project_checksum
from ml.warehouse import DuckDBWarehouse

PROJECT = Path(__file__).resolve().parents[2]


def result(**changes: object) -> AuditResult:
    given = {
        "layer": "replay",
        "target": "duckdb",
        "market": "sample",
        "started_at": now(),
        "passed": False,
        "checked": 1_234,
        "differences": 2,
        "summary": "2 cells differ",
        "details": {"columns": ["mom_1"]},
    }
    return AuditResult(**(given | changes))


def test_an_audit_is_a_row_and_is_listed(project_dir: Path, warehouse_path: Path) -> None:
    with DuckDBWarehouse(warehouse_path) as warehouse:
        first = record_audit(warehouse, "ml", project_dir, result())
        second = record_audit(warehouse, "ml", project_dir, result(passed=True, run_id="r1"))
        rows = warehouse.read_arrow("select * from ml.audits order by finished_at").to_pylist()
    assert [r["audit_id"] for r in rows] == [first, second] and first != second
    assert [r["passed"] for r in rows] == [False, True]
    assert [r["run_id"] for r in rows] == [None, "r1"]
    assert rows[0]["checked"] == 1_234 and rows[0]["differences"] == 2
    assert json.loads(rows[0]["details"]) == {"columns": ["mom_1"]}
    assert rows[0]["started_at"] <= rows[0]["finished_at"]
    assert rows[0]["project_checksum"] == project_checksum(project_dir)

    listed = CliRunner().invoke(main, ["--project-dir", str(project_dir), "audit", "list"])
    assert listed.exit_code == 0, listed.output
    lines = [line for line in listed.output.splitlines() if "replay" in line]
    assert len(lines) == 2 and "yes" in lines[0] and "NO" in lines[1] and "1,234" in lines[1]


def test_data_is_named_after_the_layout_of_the_prices(warehouse_path: Path) -> None:
    variables = {"raw_schema": "raw", "market": "asx"}
    with DuckDBWarehouse(warehouse_path) as warehouse:
        # mapped tables of a team: there is no raw.prices to ask
        assert data_name(warehouse, variables) == "asx"
        warehouse.execute("create schema if not exists raw")
        warehouse.execute("create table raw.prices as select cast(null as varchar) as source")
        assert data_name(warehouse, variables) == "asx"
        warehouse.execute("insert into raw.prices values ('us')")
        assert data_name(warehouse, variables) == "us"


def test_audits_of_another_warehouse_are_taken_over_once(
    project_dir: Path, warehouse_path: Path, tmp_path: Path
) -> None:
    with DuckDBWarehouse(tmp_path / "other.duckdb") as other:
        record_audit(other, "ml", project_dir, result(target="postgres"))
    with DuckDBWarehouse(warehouse_path) as warehouse:
        record_audit(warehouse, "ml", project_dir, result())
    arguments = ["--project-dir", str(project_dir), "audit", "collect"]
    for new in (1, 0):
        done = CliRunner().invoke(main, [*arguments, str(tmp_path / "other.duckdb")])
        assert done.exit_code == 0, done.output
        assert done.output.startswith(f"{new} audits taken over")
    with DuckDBWarehouse(warehouse_path) as warehouse:
        targets = warehouse.read_rows("select target from ml.audits order by target")
    assert targets == [("duckdb",), ("postgres",)]


def test_an_unknown_layer_is_refused(project_dir: Path, warehouse_path: Path) -> None:
    with (
        DuckDBWarehouse(warehouse_path) as warehouse,
        pytest.raises(ValueError, match="one of static"),
    ):
        record_audit(warehouse, "ml", project_dir, result(layer="guess"))


def test_the_checksum_follows_every_file_that_decides_rows(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    for folder in ("models", "macros", "seeds", "snapshots", "tests", "ml", "ingest"):
        shutil.copytree(PROJECT / folder, copy / folder)
    shutil.copy(PROJECT / "dbt_project.yml", copy / "dbt_project.yml")
    found = {project_checksum(copy)}
    assert found == {project_checksum(PROJECT)}
    for name in (
        "dbt_project.yml",
        "models/staging/raw/stg_prices.sql",
        "macros/project/known_by.sql",
        "seeds/tick_sizes.csv",
        "ml/folds.py",
    ):
        with (copy / name).open("a", encoding="utf-8") as stream:
            stream.write("\n")
        found.add(project_checksum(copy))
    assert len(found) == 6
