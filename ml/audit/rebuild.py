"""A second build of the warehouse beside the first, as it was known before a past time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ml.errors import AsxwError
from ml.manifest import Model, project_models
from ml.warehouse import Warehouse

MARK = "asof_"


@dataclass(frozen=True)
class Rebuild:
    """A finished as-of build."""

    as_of: datetime
    prefix: str
    """Of its schemas."""
    models: Mapping[str, Model]


def rebuild(
    project_dir: Path,
    target: str | None,
    variables: Mapping[str, Any],
    as_of: datetime,
    select: Sequence[str],
    folder: Path,
    *,
    corrections: bool = False,
) -> Rebuild:
    """Build the named models and all they stand on as known before `as_of`.

    The schemas of the build are those of the warehouse with `asof_` and the time before their
    names; the raw tables are the warehouse's own, and so is what dbt's snapshots have kept.

    Args:
        project_dir: folder with dbt_project.yml.
        target: target of the dbt profile.
        variables: of the full build; as_of and the prefix are laid over them.
        as_of: market local time.
        select: models to build, their ancestors included.
        folder: for what dbt writes.
        corrections: also take what became known later of sessions decided by then.

    Raises:
        AsxwError: the build failed; the text carries dbt's message.
    """
    own = str(variables.get("schema_prefix", ""))
    prefix = f"{own}{MARK}{as_of:%Y%m%d%H%M}_"
    given = {
        **variables,
        "schema_prefix": prefix,
        "snapshot_prefix": own,
        "as_of": as_of.isoformat(sep=" "),
        "as_of_corrections": corrections,
    }
    command = [sys.executable, "-m", "dbt.cli.main", "--quiet", "build"]
    command += ["--project-dir", str(project_dir), "--target-path", str(folder)]
    command += ["--log-path", str(folder / "logs"), "--vars", json.dumps(given, default=str)]
    command += ["--exclude-resource-type", "test", "unit_test", "snapshot"]
    command += ["--select", *(f"+{name}" for name in select)]
    if target:
        command += ["--target", target]
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603 (our own interpreter; arguments are passed as a list)
        command, cwd=project_dir, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-2000:]
        raise AsxwError(f"The build as known before {as_of} failed:\n{output}")
    return Rebuild(as_of, prefix, project_models(folder / "manifest.json"))


def drop(warehouse: Warehouse, prefix: str) -> None:
    """Drop every schema of an as-of build.

    Raises:
        ValueError: the prefix is not that of an as-of build.
    """
    if not re.search(rf"{MARK}\d{{12}}_$", prefix):
        raise ValueError(f"{prefix} is not the prefix of an as-of build.")
    schemas = warehouse.read_rows(
        "select distinct schema_name from information_schema.schemata "
        "where left(cast(schema_name as text), cast(? as integer)) = ?",
        (len(prefix), prefix),
    )
    for (schema,) in schemas:
        warehouse.execute(f'drop schema "{schema}" cascade')


def forget(folder: Path) -> None:
    """Remove what dbt wrote for an as-of build."""
    shutil.rmtree(folder, ignore_errors=True)
