"""The public marts as Parquet and as a finished DuckDB file, for readers who must not wait.

A reader of the build's own DuckDB file keeps dbt from writing. What is published here is never
written again: each new version takes the old one's name in one step, and whoever has the old file
open goes on reading it.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import duckdb

from ml.artifacts import sha256_file
from ml.errors import AsxwError
from ml.export import appearing
from ml.manifest import Relation, public_marts
from ml.warehouse import Warehouse, open_warehouse

DATABASE = "asx_warehouse.duckdb"
MANIFEST = "manifest.json"
# so that every DuckDB from 1.4 on can open the file
STORAGE: dict[str, Any] = {"storage_compatibility_version": "v1.4.0"}
_TEXT = ("VARCHAR", "TEXT")


@dataclass(frozen=True)
class Published:
    """One mart as it was published."""

    name: str
    rows: int
    file: Path


def publish(
    warehouse: Warehouse,
    marts: Mapping[Relation, Sequence[str]],
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Published]:
    """Write every mart to folder/<mart>.parquet, all of them to one DuckDB file, then a manifest.

    All marts are read at one moment. Rows are in order of the mart's key, so that the same marts
    give the same Parquet files. The manifest comes last: what it lists is complete.

    Args:
        warehouse: open connection.
        marts: tables, each with the columns that identify a row.
        folder: made where it is missing.
        progress: called with one line per mart.

    Raises:
        AsxwError: a mart is missing; nothing was replaced.
    """
    missing = [r.sql for r in marts if not warehouse.columns(r.schema, r.name)]
    if missing:
        raise AsxwError(f"{warehouse.place} has no {', '.join(missing)}: run `dbt build` first.")
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[tuple[Relation, Path]] = []
    own = secrets.token_hex(4)
    try:
        with warehouse.snapshot(list(marts)):
            for relation, keys in marts.items():
                part = folder / f".{relation.name}.parquet.{own}.part"
                parts.append((relation, part))
                warehouse.write_parquet(_ordered(warehouse, relation, keys), part)
        with appearing(folder / DATABASE) as file:
            counts = _database(file, parts)
            file.chmod(0o444)
        done = []
        for relation, part in parts:
            file = folder / f"{relation.name}.parquet"
            part.replace(file)
            done.append(Published(relation.name, counts[relation.name], file))
            progress(f"{file.name}: {counts[relation.name]:,} rows")
    finally:
        for _, part in parts:
            part.unlink(missing_ok=True)
    with appearing(folder / MANIFEST) as file:
        file.write_text(json.dumps(_manifest(done, folder / DATABASE), indent=2) + "\n")
    return done


def _ordered(warehouse: Warehouse, relation: Relation, keys: Sequence[str]) -> str:
    types = warehouse.columns(relation.schema, relation.name)
    columns = ", ".join(f'"{c}"' for c in types)
    order = ", ".join(f'"{k}" collate "C"' if types[k] in _TEXT else f'"{k}"' for k in keys)
    return f"select {columns} from {relation.sql} order by {order}"


def _database(file: Path, parts: Sequence[tuple[Relation, Path]]) -> dict[str, int]:
    """Fill a new DuckDB file from the Parquet files; rows by table."""
    file.unlink(missing_ok=True)
    counts = {}
    with duckdb.connect(str(file), config=STORAGE) as connection:
        for relation, part in parts:
            connection.execute(f'create schema if not exists "{relation.schema}"')
            connection.execute(
                f"create table {relation.sql} as select * from read_parquet(?)", [str(part)]
            )
            rows = connection.execute(f"select count(*) from {relation.sql}").fetchall()
            counts[relation.name] = int(rows[0][0])
        connection.execute("checkpoint")
    return counts


def _manifest(done: Sequence[Published], database: Path) -> dict[str, Any]:
    return {
        "published_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "database": {"file": database.name, "sha256": sha256_file(database)},
        "marts": [
            {"name": p.name, "file": p.file.name, "rows": p.rows, "sha256": sha256_file(p.file)}
            for p in done
        ],
    }


@click.command("publish")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder to write to (default: published/).",
)
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="dbt's manifest.json (default: target/).",
)
@click.pass_obj
def publish_command(settings: dict[str, Any], *, out: Path | None, manifest: Path | None) -> None:
    """Write the public marts as Parquet and as one read-only DuckDB file, each moved into place."""
    project_dir = settings["project_dir"]
    marts = public_marts(project_dir, manifest, settings["target"])
    folder = out or project_dir / "published"
    with open_warehouse(project_dir, settings["target"], read_only=True) as warehouse:
        done = publish(warehouse, marts, folder, lambda line: click.echo(line, err=True))
    click.echo(f"{len(done)} marts, {sum(p.rows for p in done):,} rows: {folder / DATABASE}")
