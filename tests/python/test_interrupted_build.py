"""A dbt build that is killed leaves a warehouse that the next build makes whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

PROJECT = Path(__file__).parents[2]
DBT = [str(Path(sys.executable).with_name("dbt")), "--quiet"]
ASXW = [str(Path(sys.executable).with_name("asxw"))]
BUILD = [*DBT, "run"]

pytestmark = pytest.mark.slow


def environment(warehouse: Path) -> dict[str, str]:
    names = {
        "ASXW_DUCKDB_PATH": str(warehouse),
        "DBT_TARGET_PATH": str(warehouse.parent / f"target_{warehouse.stem}"),
        "DBT_LOG_PATH": str(warehouse.parent / "logs"),
        "ASXW_TARGET": "duckdb",
    }
    return {k: v for k, v in os.environ.items() if k != "DBT_PROFILES_DIR"} | names


def call(command: list[str], warehouse: Path) -> None:
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=environment(warehouse),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def contents(warehouse: Path) -> dict[str, tuple[int, int]]:
    """Rows and an order-free checksum of every table dbt makes."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
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
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    warehouse = folder / "undisturbed.duckdb"
    sample = folder / "sample"
    call([*ASXW, "sample-market", str(sample), "--symbols", "20", "--sessions", "330"], warehouse)
    call([*ASXW, "load", str(sample), "--layout", "sample"], warehouse)
    (folder / "loaded.duckdb").write_bytes(warehouse.read_bytes())
    call([*DBT, "seed"], warehouse)
    call(BUILD, warehouse)
    return warehouse


@pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
def test_a_killed_build_run_again_ends_in_the_same_tables(
    undisturbed: Path, tmp_path: Path, share: float
) -> None:
    warehouse = tmp_path / "killed.duckdb"
    warehouse.write_bytes((undisturbed.parent / "loaded.duckdb").read_bytes())
    call([*DBT, "seed"], warehouse)
    models = len(contents(undisturbed))

    process = subprocess.Popen(
        BUILD,
        cwd=PROJECT,
        env=environment(warehouse),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # the compiled files tell how far it is without touching the database
    run = tmp_path / "target_killed" / "run" / "asx_warehouse" / "models"
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
            assert made == contents(undisturbed)[name], f"{name} is neither old nor new"
    call(BUILD, warehouse)
    assert contents(warehouse) == contents(undisturbed)
