"""The ledger of audits: what was checked, on which state of the project, with which result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ml.contract import read_contract
from ml.project_state import git_commit, project_checksum
from ml.warehouse import Warehouse, write_when_free

LAYERS = ("static", "mutations", "invariance", "replay", "ladder")
_WAIT_SECONDS = 600.0


def now() -> datetime:
    """The present in UTC, without a zone: what the ledger's columns hold."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class AuditResult:
    """One finished audit, not on record yet."""

    layer: str
    """One of LAYERS."""
    target: str
    """Engine the audit ran on: duckdb or postgres."""
    market: str
    """What data: the market, and which data of it (such as asx, us, sample)."""
    started_at: datetime
    """UTC, from `now`."""
    passed: bool
    checked: int
    """Things looked at: rules, mutations, cells."""
    differences: int
    """Things found wrong."""
    summary: str
    """One line for a person."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What a reader may want beyond that; it becomes JSON."""
    run_id: str | None = None
    """Training run the audit is about, where it is about one."""


def data_name(warehouse: Warehouse, variables: Mapping[str, Any]) -> str:
    """Which data the warehouse holds, for `AuditResult.market`: the layout its prices came by.

    Args:
        warehouse: to look into.
        variables: of the build: raw_schema, and the market, which is the answer where the prices
            do not say.
    """
    schema, market = str(variables.get("raw_schema", "raw")), str(variables.get("market", ""))
    # a team's own tables may stand elsewhere (raw_mapping), and not everyone may read them
    if not warehouse.may_read(schema, "prices"):
        return market
    rows = warehouse.read_rows(
        f'select source from "{schema}"."prices" where source is not null '
        "group by source order by count(*) desc, source limit 1"
    )
    return str(rows[0][0]) if rows else market


def record_audit(warehouse: Warehouse, schema: str, project_dir: Path, result: AuditResult) -> str:
    """Write an audit as a row of `audits` in one transaction and return its audit_id.

    Raises:
        ValueError: the layer is not one of LAYERS.
    """
    if result.layer not in LAYERS:
        raise ValueError(f"layer is {result.layer}; it is one of {', '.join(LAYERS)}.")
    contract = read_contract(project_dir, "ml")
    checksum, details = project_checksum(project_dir), json.dumps(result.details, default=str)
    finished = now()
    content = (result.layer, result.target, result.market, checksum, details, finished.isoformat())
    digest = hashlib.sha256("\0".join(content).encode()).hexdigest()
    audit_id = f"{result.layer}-{finished:%Y%m%d%H%M%S}-{digest[:10]}"
    row = {
        "audit_id": audit_id,
        "layer": result.layer,
        "target": result.target,
        "market": result.market,
        "run_id": result.run_id,
        "git_commit": git_commit(project_dir),
        "project_checksum": checksum,
        "started_at": result.started_at,
        "finished_at": finished,
        "passed": result.passed,
        "checked": result.checked,
        "differences": result.differences,
        "summary": result.summary,
        "details": details,
    }
    table = contract["audits"]
    warehouse.create_tables(schema, {"audits": table})
    rows = pa.Table.from_pylist([row], schema=table.arrow_schema)
    with warehouse.transaction():
        warehouse.replace(schema, table, rows, {"audit_id": audit_id})
    return audit_id


def record_when_free(
    project_dir: Path,
    target: str | None,
    schema: str,
    result: AuditResult,
    report: Callable[[str], None],
) -> None:
    """`record_audit` on the warehouse of the profile, waiting until another process frees it."""

    def write(warehouse: Warehouse) -> None:
        record_audit(warehouse, schema, project_dir, result)

    write_when_free(project_dir, target, _WAIT_SECONDS, report, write)


def collect(warehouse: Warehouse, schema: str, project_dir: Path, other: Warehouse) -> int:
    """Take over the audits of another warehouse that this one does not have yet.

    Args:
        warehouse: gets the rows.
        schema: of the result tables, the same in both.
        project_dir: folder with dbt_project.yml.
        other: has them.

    Returns:
        How many rows are new.
    """
    table = read_contract(project_dir, "ml")["audits"]
    warehouse.create_tables(schema, {"audits": table})
    if not other.has_table(schema, "audits"):
        return 0
    columns = ", ".join(f'"{c.name}"' for c in table.columns)
    rows = other.read_arrow(f'select {columns} from "{schema}"."audits"').cast(table.arrow_schema)
    known = {row[0] for row in warehouse.read_rows(f'select audit_id from "{schema}"."audits"')}
    new = rows.filter(pa.array([i not in known for i in rows["audit_id"].to_pylist()], pa.bool_()))
    if new.num_rows:
        with warehouse.transaction():
            warehouse.append(schema, table, new)
    return int(new.num_rows)
