"""A dbt build that is killed leaves a warehouse that the next build makes whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import duckdb
import pytest
from built_warehouse import Warehouse

BUILD = ("dbt", "--quiet", "run")

pytestmark = pytest.mark.slow


def contents(warehouse: Warehouse) -> dict[str, tuple[int, int]]:
    """Rows and an order-free checksum of every table dbt makes."""
    with duckdb.connect(str(warehouse.path), read_only=True) as connection:
        tables = connection.execute(
            "select table_schema, table_name from information_schema.tables "
            "where table_schema in ('staging', 'intermediate', 'marts') order by all"
        ).fetchall()
        return {
            f"{schema}.{table}": connection.execute(
                f'select count(*), coalesce(bit_xor(hash(t)), 0) from "{schema}"."{table}" as t'
            ).fetchall()[0]
            for schema, table in tables
        }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = Warehouse(tmp_path_factory.mktemp("undisturbed"))
    sample = str(warehouse.folder / "sample")
    warehouse.run("asxw", "sample-market", sample, "--symbols", "20", "--sessions", "330")
    warehouse.run("asxw", "load", sample, "--layout", "sample")
    warehouse.run("dbt", "--quiet", "seed")
    shutil.copy(warehouse.path, warehouse.folder / "loaded.duckdb")
    warehouse.run(*BUILD)
    return warehouse


@pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
def test_a_killed_build_run_again_ends_in_the_same_tables(
    undisturbed: Warehouse, tmp_path: Path, share: float
) -> None:
    warehouse = Warehouse(tmp_path)
    shutil.copy(undisturbed.folder / "loaded.duckdb", warehouse.path)
    whole = contents(undisturbed)
    models = len(whole)

    silent = subprocess.DEVNULL
    process = warehouse.popen(*BUILD, stdout=silent, stderr=silent, start_new_session=True)
    # the compiled files tell how far it is without touching the database
    run = warehouse.target / "run" / "asx_warehouse" / "models"
    deadline = time.monotonic() + 120
    while len(list(run.rglob("*.sql"))) < share * models:
        assert time.monotonic() < deadline and process.poll() is None, "the build ended too early"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    half_built = contents(warehouse)
    assert len(half_built) < models + 10
    for name, made in half_built.items():
        if not name.endswith(("__dbt_tmp", "__dbt_backup")):
            assert made == whole[name], f"{name} is neither old nor new"
    warehouse.run(*BUILD)
    assert contents(warehouse) == whole
