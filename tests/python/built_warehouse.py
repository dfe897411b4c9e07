"""Warehouses built by the programs a person would use, for tests that look at the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a program of this environment in the project folder; its output is the message."""
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [str(program), *command[1:]],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def build(
    folder: Path,
    data: Path,
    layout: str,
    variables: dict[str, object] | None = None,
    select: str | None = None,
) -> Path:
    """Load a folder of files into a new warehouse, and build its models, or those selected."""
    path = folder / "warehouse.duckdb"
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DBT_PROFILES_DIR", "ASXW_TARGET")
    }
    environment |= {
        "ASXW_DUCKDB_PATH": str(path),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
    }
    run(["asxw", "load", "--layout", layout, str(data)], environment)
    arguments = ["--vars", json.dumps(variables or {})]
    arguments += ["--select", select] if select else []
    run(["dbt", "build", "--exclude-resource-type", "test", "unit_test", *arguments], environment)
    return path
