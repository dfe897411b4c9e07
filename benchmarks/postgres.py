"""One run, three ways: Postgres beside DuckDB beside the pandas job, step by step.

    python benchmarks/postgres.py                 # 2,394 symbols x 520 sessions
    python benchmarks/postgres.py --symbols 200   # a quick look

Both warehouses load the same files, build the same project and give the same panel; the pandas job
goes from the stored grid to stored technical columns (benchmarks/feature_build.py). The server is
one of the project's own (`asxw postgres`), with every write forced to disk, or the one that PGHOST
names: give it an empty database.

At the end Postgres runs the build twice more with tables copied from their finished selves: all of
them, which is what dbt, storing and indexing take, however fast the SQL is; and all but the five
technical families, which are computed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feature_build import (
    FAMILIES,
    GRID,
    PROJECT,
    REFERENCE_SESSIONS,
    REFERENCE_SYMBOLS,
    SQL_RESULT,
    connect,
    pandas_job,
    run,
    sample_market,
)

from ml.config import read_config
from ml.contract import read_contract
from ml.dataset import read_panel
from ml.manifest import read_manifest
from ml.postgres import PostgresWarehouse
from ml.postgres_server import PostgresServer
from ml.scoring import Scores, write_scores
from ml.text_table import text_table
from ml.warehouse import DuckDBWarehouse, Warehouse

WRITTEN_ROWS = 500_000
ENGINES = ("duckdb", "postgres")
BUILD = ["dbt", "--quiet", "build", "--exclude-resource-type", "test", "unit_test"]
# where the project writes the query of a table, and what is put before it in the copying build
QUERY_OF_TABLE = "{% macro postgres_create_from_query(relation, sql) -%}\n"
COPY_INSTEAD = (
    "    {{%- set copy = 'select * from finished.' ~ this.identifier -%}}\n"
    "    {{%- set sql = sql if this.identifier in {computed} else copy -%}}\n"
)
COPYING_BUILDS: dict[str, list[str]] = {
    "nothing computed": [],
    "the technical families computed": FAMILIES,
}


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def environment(engine: str, folder: Path, pg: dict[str, str]) -> dict[str, str]:
    """Environment of a command on one of the two warehouses."""
    kept = {k: v for k, v in os.environ.items() if k != "DBT_PROFILES_DIR"}
    return kept | pg | {
        "ASXW_TARGET": engine,
        "ASXW_DUCKDB_PATH": str(folder / "benchmark.duckdb"),
        "DBT_TARGET_PATH": str(folder / f"target_{engine}"),
        "DBT_LOG_PATH": str(folder / f"logs_{engine}"),
    }  # fmt: skip


def model_spans(target: Path) -> dict[str, tuple[float, float]]:
    """Start and end of each model's execution in the last dbt run."""
    results = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
    spans = {}
    for result in results:
        for part in result["timing"]:
            if part["name"] == "execute":
                begun, ended = (
                    dt.datetime.fromisoformat(part[k].replace("Z", "+00:00")).timestamp()
                    for k in ("started_at", "completed_at")
                )
                spans[result["unique_id"].rsplit(".", 1)[-1]] = begun, ended
    return spans


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds during which at least one of the spans ran."""
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


def open_engine(engine: str, folder: Path, pg: dict[str, str]) -> Warehouse:
    """The finished warehouse."""
    if engine == "duckdb":
        return DuckDBWarehouse(folder / "benchmark.duckdb")
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD",
             "dbname": "PGDATABASE"}  # fmt: skip
    return PostgresWarehouse({k: pg.get(v, "") for k, v in names.items()})


def written_back(warehouse: Warehouse) -> float:
    """Seconds to write predictions, in one transaction."""
    contract = read_contract(PROJECT, "ml")
    day = dt.date(2024, 1, 2)
    rows = pa.table(
        {
            "run_id": ["benchmark"] * WRITTEN_ROWS,
            "symbol": [f"S{i:06d}" for i in range(WRITTEN_ROWS)],
            "trade_date": pa.array([day] * WRITTEN_ROWS),
            "probability_up": [0.5] * WRITTEN_ROWS,
            "expected_return": [0.01] * WRITTEN_ROWS,
            "trained_through": pa.array([day] * WRITTEN_ROWS),
        }
    )
    return seconds(lambda: write_scores(warehouse, "ml", contract, Scores("benchmark", day, rows)))


def measure(engine: str, files: Path, folder: Path, pg: dict[str, str]) -> dict[str, Any]:
    """Every step on one engine."""
    env = environment(engine, folder, pg)
    # what dbt itself takes, however fast the SQL is
    found: dict[str, Any] = {"build of no data, without tests": seconds(lambda: run(BUILD, env))}
    found["load"] = seconds(lambda: run(["asxw", "load", str(files), "--layout", "sample"], env))
    found["build, without tests"] = seconds(lambda: run(BUILD, env))
    target = folder / f"target_{engine}"
    spans = model_spans(target)
    found["models"] = {name: ended - begun for name, (begun, ended) in spans.items()}
    # by themselves, as the pandas job runs: inside the build other models take processors from them
    run(["dbt", "--quiet", "run", "--select", *FAMILIES], env)
    found["technical families"] = covered(model_spans(target)[n] for n in FAMILIES)
    found["data tests"] = seconds(
        lambda: run(["dbt", "--quiet", "test", "--exclude-resource-type", "unit_test"], env)
    )
    described = read_manifest(target / "manifest.json", "ml")
    features = described.features(read_config(None).features)
    with open_engine(engine, folder, pg) as warehouse:
        found["train read"] = seconds(lambda: read_panel(warehouse, described.panel, features))
        found[f"write-back of {WRITTEN_ROWS:,} rows"] = written_back(warehouse)
    return found


def keep_finished_tables(folder: Path, pg: dict[str, str]) -> None:
    """Copy every table of the build on Postgres into the schema `finished`."""
    nodes = json.loads((folder / "target_postgres" / "manifest.json").read_text(encoding="utf-8"))
    tables = [
        node
        for node in nodes["nodes"].values()
        if node["resource_type"] == "model" and node["config"]["materialized"] == "table"
    ]
    with open_engine("postgres", folder, pg) as warehouse:
        warehouse.execute("create schema finished")
        for node in tables:
            copy = f'finished."{node["alias"]}"'
            warehouse.execute(f'create table {copy} as table {node["schema"]}."{node["alias"]}"')
            # marks its rows as committed, so that the build does not spend its time on that
            warehouse.read_rows(f"select count(*) from {copy}")


def copying_build(folder: Path, pg: dict[str, str], computed: list[str]) -> float:
    """Seconds of the build on Postgres when tables not `computed` are copies of themselves."""
    project = folder / "copying"
    shutil.rmtree(project, ignore_errors=True)
    for part in ("models", "macros", "seeds", "snapshots", "tests"):
        shutil.copytree(PROJECT / part, project / part)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(PROJECT / name, project / name)
    file = project / "macros" / "materializations" / "postgres_table.sql"
    text = file.read_text(encoding="utf-8")
    assert text.count(QUERY_OF_TABLE) == 1, "the project writes its tables in another way now"
    copy = COPY_INSTEAD.format(computed=computed)
    file.write_text(text.replace(QUERY_OF_TABLE, QUERY_OF_TABLE + copy), encoding="utf-8")
    return seconds(lambda: run(BUILD, environment("postgres", folder, pg), project))


def main() -> None:
    """Read the arguments, run everything once and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--symbols", type=int, default=REFERENCE_SYMBOLS)
    parser.add_argument("--sessions", type=int, default=REFERENCE_SESSIONS)
    arguments = parser.parse_args()
    arguments.input = None
    cache = Path(tempfile.gettempdir()) / "asx_warehouse_benchmark"
    cache.mkdir(exist_ok=True)
    files = sample_market(arguments, cache)
    server = None
    with tempfile.TemporaryDirectory(prefix="asxw-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if os.environ.get("PGHOST"):
            pg = {k: v for k, v in os.environ.items() if k.startswith("PG")}
        else:
            server = PostgresServer(folder / "postgres")
            pg = server.start().environment()
        try:
            results = {e: measure(e, files, folder, pg) for e in ENGINES}
            keep_finished_tables(folder, pg)
            copying = {
                name: copying_build(folder, pg, computed)
                for name, computed in COPYING_BUILDS.items()
            }
            stored = folder / "grid.parquet"
            connection = connect(folder / "benchmark.duckdb")
            grid = connection.sql(GRID).to_arrow_table()
            columns = connection.sql(SQL_RESULT).columns
            connection.close()
            pq.write_table(grid, stored)
            rows_in = grid.num_rows
            del grid
            pandas = seconds(lambda: pandas_job(stored, folder / "features.parquet", columns))
        finally:
            if server is not None:
                server.remove()

    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{rows_in:,} rows, {os.cpu_count()} processors, load average {load}\n")
    steps = [s for s in results["duckdb"] if s != "models"]
    rows = [
        (step, *(f"{results[e][step]:.1f}" for e in ENGINES),
         f"{pandas:.1f}" if step == "technical families" else "")
        for step in steps
    ]  # fmt: skip
    print(text_table(("seconds", *ENGINES, "pandas"), rows))
    slowest = sorted(results["postgres"]["models"].items(), key=lambda entry: -entry[1])[:25]
    rows = [(m, f"{results['duckdb']['models'][m]:.1f}", f"{s:.1f}") for m, s in slowest]
    print("\n" + text_table(("model, seconds", *ENGINES), rows))
    technical = results["postgres"]["technical families"] / pandas
    whole = results["postgres"]["build, without tests"] / pandas
    print(f"\nPostgres: technical families {technical:.2f} times the pandas job (target 1), ")
    print(f"whole build {whole:.2f} times (target 2).")
    print("The same build with tables copied from their finished selves:")
    for name, spent in copying.items():
        print(f"  {name}: {spent:.1f} s, {spent / pandas:.2f} times")


if __name__ == "__main__":
    main()
