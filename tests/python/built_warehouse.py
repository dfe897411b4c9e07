"""Warehouses in a folder of a test's own, built by the programs a person would use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

PROJECT = Path(__file__).parents[2]
NO_TESTS = ("--exclude-resource-type", "test", "unit_test")
# Parsing the project takes dbt three times as long as all else a small command does. What one test
# has parsed, the next one begins with; dbt itself reads again what has changed since.
PARSED = PROJECT / "target" / "test" / "partial_parse.msgpack"


@dataclass(frozen=True)
class Warehouse:
    """The project's programs on the DuckDB file of a folder."""

    folder: Path
    project: Path = PROJECT

    @property
    def path(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def target(self) -> Path:
        """Where dbt writes."""
        return self.folder / "target"

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k != "DBT_PROFILES_DIR"}
        return kept | {
            "ASXW_TARGET": "duckdb",
            "DBT_TARGET_PATH": str(self.target),
            "DBT_LOG_PATH": str(self.folder / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program of this environment."""
        program = str(Path(sys.executable).with_name(command[0]))
        environment, place = self.environment(), self.project
        if command[0] == "dbt":
            # the same connection in every folder: with another one dbt parses the project anew
            environment |= {
                "DBT_PROJECT_DIR": str(self.project),
                "DBT_PROFILES_DIR": str(self.project),
            }
            place = self.folder
            self._take_parsed()
        else:
            environment["ASXW_DUCKDB_PATH"] = str(self.path)
        return subprocess.Popen([program, *command[1:]], cwd=place, env=environment, **options)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment to its end."""
        pipe = subprocess.PIPE
        process = self.popen(*command, stdout=pipe, stderr=pipe, text=True)
        output, errors = process.communicate()
        done = subprocess.CompletedProcess(command, process.returncode, output, errors)
        assert not check or done.returncode == 0, output[-4000:] + errors[-4000:]
        # with other variables dbt parses anew, so what it made of them is of no use to the next
        if command[0] == "dbt" and "--vars" not in command:
            self._leave_parsed()
        return done

    def _take_parsed(self) -> None:
        if self.project == PROJECT and PARSED.exists() and not self.target.exists():
            self.target.mkdir()
            shutil.copy(PARSED, self.target)

    def _leave_parsed(self) -> None:
        parsed = self.target / PARSED.name
        if self.project == PROJECT and parsed.is_file() and not PARSED.exists():
            PARSED.parent.mkdir(parents=True, exist_ok=True)
            # another process may be reading or doing the same
            mine = PARSED.with_suffix(f".{os.getpid()}")
            shutil.copy(parsed, mine)
            mine.replace(PARSED)

    def frame(self, sql: str) -> pd.DataFrame:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            return connection.sql(sql).df()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.path), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(sql)


def build(
    folder: Path,
    data: Path,
    layout: str,
    variables: Mapping[str, object] | None = None,
    select: str | None = None,
) -> Path:
    """Load a folder of files into a new warehouse, and build its models, or those selected."""
    warehouse = Warehouse(folder)
    warehouse.run("asxw", "load", "--layout", layout, str(data))
    arguments = ["--vars", json.dumps(variables)] if variables else []
    arguments += ["--select", select] if select else []
    warehouse.run("dbt", "build", *NO_TESTS, *arguments)
    return warehouse.path
