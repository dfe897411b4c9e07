"""The warehouse from Python: all or nothing, and never two writers."""

from __future__ import annotations

import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest
from click.testing import CliRunner
from panel_fixture import REPOSITORY, make_market, make_project

from ml.cli import main
from ml.contract import Column, Table, read_contract
from ml.errors import AsxwError
from ml.warehouse import (
    DuckDBWarehouse,
    WarehouseBusyError,
    open_warehouse,
    open_when_free,
    project_vars,
    read_target,
)

TABLE = Table("t", (Column("k", "text"), Column("day", "date"), Column("x", "bigint")), ("k",))


def rows(key: str, *values: int) -> pa.Table:
    count = len(values)
    return pa.table({"x": list(values), "k": [key] * count, "day": pa.nulls(count, pa.date32())})


@pytest.fixture
def warehouse(tmp_path):
    with DuckDBWarehouse(tmp_path / "w.duckdb") as opened:
        opened.create_tables("ml", {"t": TABLE})
        yield opened


def values(warehouse):
    return warehouse.read_rows('select k, x from ml."t" order by k, x')


def test_replace_touches_the_named_rows_only(warehouse):
    for key in ("a", "b"):
        warehouse.replace("ml", TABLE, rows(key, 1, 2), {"k": key})
    with warehouse.transaction():
        warehouse.replace("ml", TABLE, rows("a", 7), {"k": "a"})
    assert values(warehouse) == [("a", 7), ("b", 1), ("b", 2)]


def test_a_failed_transaction_leaves_nothing(warehouse):
    warehouse.append("ml", TABLE, rows("a", 1))
    with pytest.raises(RuntimeError), warehouse.transaction():
        warehouse.replace("ml", TABLE, rows("a", 9), {"k": "a"})
        raise RuntimeError
    assert values(warehouse) == [("a", 1)]


def test_a_failed_insert_in_a_transaction_says_what_failed(warehouse):
    with pytest.raises(duckdb.Error, match='"day" not found'), warehouse.transaction():
        warehouse.append("ml", TABLE, rows("a", 1))
        warehouse.append("ml", TABLE, pa.table({"k": ["a"]}))
    warehouse.append("ml", TABLE, rows("b", 1))
    assert values(warehouse) == [("b", 1)]


def test_queries_bind_parameters_and_return_arrow(warehouse):
    warehouse.append("ml", TABLE, rows("a'b", 1, 2))
    table = warehouse.read_arrow("select x from ml.t where k = ? order by x", ("a'b",))
    assert table.column("x").to_pylist() == [1, 2]


def test_creating_tables_again_changes_nothing(warehouse):
    warehouse.append("ml", TABLE, rows("a", 1))
    warehouse.create_tables("ml", {"t": TABLE})
    assert values(warehouse) == [("a", 1)]
    assert warehouse.has_table("ml", "t") and not warehouse.has_table("ml", "u")


def test_contract_tables_can_all_be_created(tmp_path):
    contract = read_contract(REPOSITORY, "ml")
    with DuckDBWarehouse(tmp_path / "w.duckdb") as warehouse:
        warehouse.create_tables("ml", contract)
        for name, table in contract.items():
            found = warehouse.read_arrow(f'select * from ml."{name}"')
            assert found.schema.names == table.arrow_schema.names


def test_reading_a_warehouse_that_does_not_exist(tmp_path):
    with pytest.raises(AsxwError, match="does not exist yet"):
        DuckDBWarehouse(tmp_path / "none.duckdb", read_only=True)


HOLD = (
    "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('held', flush=True);"
    "time.sleep(float(sys.argv[2]))"
)


def hold(path, seconds: float):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_or_waits(tmp_path):
    project = make_project(tmp_path / "p", make_market(3, 40))
    process = hold(project / "warehouse.duckdb", 3)
    try:
        with pytest.raises(WarehouseBusyError, match="in use by another process"):
            open_warehouse(project)
        with pytest.raises(WarehouseBusyError):
            open_when_free(project, None, 0, lambda line: None)
        lines: list[str] = []
        with open_when_free(project, None, 30, lines.append) as warehouse:
            assert warehouse.has_table("marts", "fct_features_daily")
        assert len(lines) == 1 and "waiting up to 30 s" in lines[0]
    finally:
        process.kill()
        process.wait()


def test_a_database_in_memory_is_refused():
    with pytest.raises(AsxwError, match="in memory, which keeps nothing"):
        open_warehouse(REPOSITORY, "memory")
    assert not (REPOSITORY / ":memory:").exists()


def test_unknown_target_lists_the_known(tmp_path):
    project = make_project(tmp_path / "p", make_market(3, 40))
    with pytest.raises(AsxwError, match="no target prod; there are: duckdb"):
        read_target(project, "prod")


def test_variables_of_a_command_are_laid_over_the_projects():
    project = project_vars(REPOSITORY)
    assert project["raw_schema"] == "raw"
    assert project_vars(REPOSITORY, "{raw_schema: team}") == {**project, "raw_schema": "team"}
    with pytest.raises(AsxwError, match="--vars must be a mapping"):
        project_vars(REPOSITORY, "raw_schema")


@pytest.mark.parametrize(
    "command",
    ["train", "tune", "ablation", "score", "report", "model-card", "export", "status", "calendar",
     "promote x --reason y", "audit list", "audit static", "audit mutations", "audit invariance",
     "audit replay", "audit ladder"],
)  # fmt: skip
def test_a_folder_without_a_project_is_named(tmp_path, command):
    done = CliRunner().invoke(main, ["--project-dir", str(tmp_path), *command.split()])
    assert done.exit_code == 1 and f"{tmp_path} has no dbt_project.yml" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_project_or_variables_that_are_no_yaml_are_named(tmp_path):
    with pytest.raises(AsxwError, match="--vars must be a mapping"):
        project_vars(REPOSITORY, "{a:")
    path = tmp_path / "dbt_project.yml"
    path.write_text("vars: {a:")
    with pytest.raises(AsxwError, match=r"dbt_project.yml cannot be read"):
        project_vars(tmp_path)
    path.write_text("vars:\n")
    assert project_vars(tmp_path) == {}
