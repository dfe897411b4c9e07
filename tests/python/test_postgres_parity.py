"""The same market built on both engines: every cell of every public mart agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from built_warehouse import build
from postgres_fixture import BUILD, SMALL, Database, command, installed_versions

from ml.config import read_config
from ml.dataset import SEGMENT_COLUMN, read_panel
from ml.manifest import Relation, project_manifest, public_marts
from ml.parity import compare, compare_table, report
from ml.postgres_server import PostgresServer, find_binaries
from ml.warehouse import DuckDBWarehouse

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def duckdb_file(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("duckdb"), sample_folder, "sample")


def check(duckdb_file: Path, database: Database) -> None:
    marts = public_marts(PROJECT, duckdb_file.parent / "target" / "manifest.json")
    with DuckDBWarehouse(duckdb_file, read_only=True) as left, database.warehouse() as right:
        compared = compare(left, right, marts)
    assert sum(c.different for c in compared) == 0, report(compared)
    assert sum(c.rows for c in compared) > 1_000_000
    # that it says nothing of empty columns
    assert {c.table for c in compared if c.rows} >= {"fct_features_daily", "fct_price_breaks"}


def test_every_public_cell_agrees(duckdb_file: Path, built: Database) -> None:
    check(duckdb_file, built)


def test_a_model_reads_the_same_panel(duckdb_file: Path, built: Database) -> None:
    """The same checksum, so the same run id and the same trees, whichever engine trains."""
    manifest = project_manifest(PROJECT, duckdb_file.parent / "target" / "manifest.json")
    config = read_config(PROJECT / "ml" / "model.yml")
    features = manifest.features(config.features)
    with DuckDBWarehouse(duckdb_file, read_only=True) as left, built.warehouse() as right:
        panels = [read_panel(w, manifest.panel, features, (SEGMENT_COLUMN,)) for w in (left, right)]
        # what the engines hold does differ in its last bits
        exact = [
            w.read_arrow(
                f'select vol_60 from {manifest.panel.sql} order by symbol collate "C", session_idx'
            ).column(0)
            for w in (left, right)
        ]
    assert len(panels[0]) > 10_000
    np.testing.assert_array_equal(panels[0].values, panels[1].values)
    assert panels[0].checksum == panels[1].checksum
    assert not exact[0].equals(exact[1])


@pytest.mark.parametrize("version", installed_versions()[1:])
def test_every_public_cell_agrees_on_older_versions(
    duckdb_file: Path, sample_folder: Path, tmp_path: Path, version: str
) -> None:
    server = PostgresServer(
        tmp_path / "server", binaries=find_binaries(version), durable=False, settings=SMALL
    )
    try:
        database = Database(server, server.start(), "asx_warehouse")
        environment = database.environment(tmp_path)
        command("asxw", "load", str(sample_folder), "--layout", "sample", environment=environment)
        # every test too: unit tests and data tests on this version
        everything = version == installed_versions()[1]
        command(*(BUILD[:3] if everything else BUILD), environment=environment)
        check(duckdb_file, database)
    finally:
        server.remove()


def test_differences_are_found_and_shown(tmp_path: Path) -> None:
    left = pa.table(
        {
            "k": ["a", "b", "c", "d"],
            "x": [1.0, 2.0, None, 4.0],
            "skew_ret_60": [1.0, 1.0, 1.0, 1.0],
            "flag": [True, False, None, True],
            "created_at": [1, 2, 3, 4],
            "finished_at": [1, None, 3, 4],
        }
    )
    right = pa.table(
        {
            "k": ["d", "c", "b", "a"],
            "x": [4.0 * (1 + 1e-10), None, 2.0 * (1 + 1e-8), 1.0],
            "skew_ret_60": [1 + 1e-7, 1.0, 1.0, 1.0],
            "flag": [True, None, None, True],
            "created_at": [5, 6, 7, 8],
            "finished_at": [5, 6, 7, 8],
        }
    )
    opened = [DuckDBWarehouse(tmp_path / f"{n}.duckdb") for n in ("left", "right")]
    for warehouse, rows in zip(opened, (left, right), strict=True):
        warehouse.put_temporary("incoming", rows)
        warehouse.execute("create table main.t as select * from incoming")
    found = {c.column: c for c in compare_table(*opened, Relation("main", "t"), ("k",))}
    assert {n: c.different for n, c in found.items()} == {
        "k": 0,
        "x": 1,
        "skew_ret_60": 0,
        "flag": 1,
        "created_at": 0,  # that there is one is compared, and not when
        "finished_at": 1,
    }
    assert found["x"].largest == pytest.approx(1e-8, rel=1e-3)
    assert "'k': 'b'" in found["x"].examples[0] and "False / None" in found["flag"].examples[0]
    assert "3 differ" in report(list(found.values()))
