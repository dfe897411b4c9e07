"""The contract of the tables that Python writes, read from the dbt sources' YAML.

`models/staging/raw/_sources.yml` and `models/staging/ml/_sources.yml` are the only place where
the columns of these tables are written down; dbt's on-run-start macro and this module both read
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from ml.errors import AsxwError

ARROW_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "double precision": pa.float64(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
}


@dataclass(frozen=True)
class Assumed:
    """A time the loader assumes where a row has none: `days` after the date in `start`, at 00:00,
    and the boolean column `flag` says so."""

    start: str
    days: int
    flag: str


@dataclass(frozen=True)
class Column:
    """One column: its name, portable SQL type and the rules the loader applies."""

    name: str
    data_type: str
    required: bool = False
    check: str | None = None
    accepted: tuple[str, ...] = ()
    between: tuple[float, ...] = ()
    loader: bool = False
    assumed: Assumed | None = None


@dataclass(frozen=True)
class RowCheck:
    """A rule over several columns: a row for which `sql` is true is rejected as `name`."""

    name: str
    sql: str

    @property
    def reads_known_time(self) -> bool:
        """Whether it needs available_at, which is worked out after the other columns."""
        return "available_at" in self.sql


@dataclass(frozen=True)
class Table:
    """One table: columns in order, key, and how a changed row is kept."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    versioned: bool = False
    ledger: bool = False
    row_checks: tuple[RowCheck, ...] = field(default=())

    @property
    def arrow_schema(self) -> pa.Schema:
        """Columns as an Arrow schema, in the table's order."""
        return pa.schema([(c.name, ARROW_TYPES[c.data_type]) for c in self.columns])

    @property
    def payload(self) -> tuple[str, ...]:
        """Columns that are neither key nor written by the loader itself."""
        return tuple(c.name for c in self.columns if c.name not in self.key and not c.loader)

    def ddl(self, schema: str) -> str:
        """`create table if not exists` with quoted identifiers."""
        lines = ", ".join(
            f'"{c.name}" {c.data_type}' + (" not null" if c.required else "") for c in self.columns
        )
        return f'create table if not exists "{schema}"."{self.name}" ({lines})'


def _table(entry: dict[str, Any]) -> Table:
    meta = entry.get("config", {}).get("meta", {})
    columns = []
    for column in entry["columns"]:
        rules = column.get("config", {}).get("meta", {})
        assumed = rules.get("assumed")
        columns.append(
            Column(
                name=column["name"],
                data_type=column["data_type"],
                required=bool(rules.get("required", False)),
                check=rules.get("check"),
                accepted=tuple(rules.get("accepted", ())),
                between=tuple(rules.get("between", ())),
                loader=bool(rules.get("loader", False)),
                assumed=Assumed(**assumed) if assumed else None,
            )
        )
    return Table(
        name=entry["name"],
        columns=tuple(columns),
        key=tuple(meta.get("key", ())),
        versioned=bool(meta.get("versioned", False)),
        ledger=bool(meta.get("ledger", False)),
        row_checks=tuple(RowCheck(r["name"], r["sql"]) for r in meta.get("row_checks", ())),
    )


def read_contract(project_dir: Path, source: str) -> dict[str, Table]:
    """Tables of one dbt source (`raw` or `ml`) by name.

    Raises:
        AsxwError: the YAML file is missing, so the folder is not this project.
    """
    path = project_dir / "models" / "staging" / source / "_sources.yml"
    if not path.is_file():
        raise AsxwError(
            f"{path} not found: run asxw from the project folder, or name it with --project-dir."
        )
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {t["name"]: _table(t) for t in document["sources"][0]["tables"]}
