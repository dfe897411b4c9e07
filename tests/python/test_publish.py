"""`asxw publish`: readers keep finished files open while the next version takes their place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.errors import AsxwError
from ml.manifest import Relation
from ml.publish import publish
from ml.warehouse import DuckDBWarehouse

MARTS = {Relation("marts", "fct_a"): ("symbol", "day"), Relation("marts", "dim_b"): ("symbol",)}


def fill(warehouse: DuckDBWarehouse, value: float) -> None:
    warehouse.execute("create schema if not exists marts")
    rows = pa.table({"day": [2, 1, 1], "symbol": ["a", "b", "B"], "x": [value] * 3})
    for relation in MARTS:
        warehouse.put_temporary("incoming", rows)
        warehouse.execute(f"create or replace table {relation.sql} as select * from incoming")


def test_readers_keep_the_old_version_and_builds_go_on(tmp_path: Path) -> None:
    out, build = tmp_path / "published", tmp_path / "build.duckdb"
    with DuckDBWarehouse(build) as warehouse:
        fill(warehouse, 1.0)
        done = publish(warehouse, MARTS, out)
    assert [(p.name, p.rows) for p in done] == [("fct_a", 3), ("dim_b", 3)]

    reader = duckdb.connect(str(out / "asx_warehouse.duckdb"), read_only=True)
    with DuckDBWarehouse(build) as warehouse:  # nobody locks the build's own file
        fill(warehouse, 2.0)
        publish(warehouse, MARTS, out)
    assert reader.execute("select distinct x from marts.fct_a").fetchall() == [(1.0,)]
    reader.close()
    with duckdb.connect(str(out / "asx_warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("select distinct x from marts.dim_b").fetchall() == [(2.0,)]
    assert (out / "asx_warehouse.duckdb").stat().st_mode & 0o222 == 0


def test_files_are_ordered_listed_and_the_same_every_time(tmp_path: Path) -> None:
    with DuckDBWarehouse(tmp_path / "build.duckdb") as warehouse:
        fill(warehouse, 1.0)
        for name in ("one", "two"):
            publish(warehouse, MARTS, tmp_path / name)
    table = pq.read_table(tmp_path / "one" / "fct_a.parquet")
    assert table.column("symbol").to_pylist() == ["B", "a", "b"]
    content = json.loads((tmp_path / "one" / "manifest.json").read_text())
    for mart in content["marts"]:
        file = tmp_path / "one" / mart["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == mart["sha256"]
        assert file.read_bytes() == (tmp_path / "two" / mart["file"]).read_bytes()
        assert mart["rows"] == 3
    assert not list((tmp_path / "one").glob(".*"))


def test_a_missing_mart_replaces_nothing(tmp_path: Path) -> None:
    with DuckDBWarehouse(tmp_path / "build.duckdb") as warehouse:
        fill(warehouse, 1.0)
        publish(warehouse, MARTS, tmp_path / "out")
        before = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
        warehouse.execute("drop table marts.dim_b")
        with pytest.raises(AsxwError, match=r"no .*dim_b.*dbt build"):
            publish(warehouse, MARTS, tmp_path / "out")
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == before
