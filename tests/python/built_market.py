"""A sample market, loaded, built by dbt, trained on and judged: everything as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import yaml

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SMALL = {
    "classifier": {"trees_final": 12, "trees_fold": 12},
    "regressor": {"trees_final": 12, "trees_fold": 12},
    "lightgbm": {"num_leaves": 8},
    "folds": {"blocks": 2, "holdout": 42},
    "evaluation": {"replicates": 60},
    "threads": 2,
}


@dataclass(frozen=True)
class Warehouse:
    """A built sample market with a trained run."""

    folder: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        environment = {k: v for k, v in os.environ.items() if k != "DBT_PROFILES_DIR"} | {
            "ASXW_DUCKDB_PATH": str(self.folder / "warehouse.duckdb"),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
            "ASXW_TARGET": "duckdb",
        }
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def frame(self, sql: str) -> pd.DataFrame:
        with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as connection:
            return connection.sql(sql).df()

    def execute(self, sql: str) -> None:
        with duckdb.connect(str(self.folder / "warehouse.duckdb")) as connection:
            connection.execute(sql)


def build_market(folder: Path) -> Warehouse:
    built = Warehouse(folder)
    sample = ("asxw", "sample-market", str(folder / "data"), "--symbols", "60")
    built.run(*sample, "--sessions", "420")
    built.run("asxw", "load", str(folder / "data"), "--layout", "sample")
    built.run("dbt", "--quiet", "build", "--exclude-resource-type", "unit_test", "test")
    (folder / "small.yml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    artifacts = ("--artifacts", str(folder / "artifacts"))
    built.run("asxw", "train", "--config", str(folder / "small.yml"), *artifacts)
    built.run("dbt", "--quiet", "build", "--select", "source:ml+", "--exclude-resource-type",
              "unit_test")  # fmt: skip
    return built
