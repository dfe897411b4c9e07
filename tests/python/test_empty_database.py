"""A build needs neither data nor a database, and a second build stands beside the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

PROJECT = Path(__file__).parents[2]
DBT = str(Path(sys.executable).with_name("dbt"))
LAYERS = {"staging", "intermediate", "marts", "ml", "snapshots"}

pytestmark = pytest.mark.slow


def build(warehouse: Path, *arguments: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DBT_PROFILES_DIR",)} | {
        "ASXW_DUCKDB_PATH": str(warehouse),
        "DBT_TARGET_PATH": str(warehouse.parent / "target"),
        "DBT_LOG_PATH": str(warehouse.parent / "logs"),
        "ASXW_TARGET": "duckdb",
    }
    done = subprocess.run(
        [DBT, "--quiet", "build", "--exclude-resource-type", "unit_test", *arguments],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def schemas(warehouse: Path) -> set[str]:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        rows = connection.execute("select distinct table_schema from information_schema.tables")
        return {row[0] for row in rows.fetchall()}


def test_a_build_on_an_empty_database_is_green_and_a_prefixed_one_stands_beside_it(
    tmp_path: Path,
) -> None:
    warehouse = tmp_path / "empty.duckdb"
    build(warehouse)
    assert schemas(warehouse) == LAYERS | {"raw"}
    build(warehouse, "--vars", "{schema_prefix: b_, market: us}")
    assert schemas(warehouse) == LAYERS | {"raw"} | {f"b_{layer}" for layer in LAYERS}
