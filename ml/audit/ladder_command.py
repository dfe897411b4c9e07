"""`asxw audit ladder`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ml.audit.ladder import Judged, climb, ladder_rows, read_rows, write_ladder
from ml.audit.ladder_picture import ladder_picture
from ml.audit.record import AuditResult, data_name, now, record_when_free
from ml.config import read_config
from ml.contract import read_contract
from ml.manifest import project_manifest
from ml.project_state import git_commit
from ml.text_table import text_table
from ml.warehouse import (
    DuckDBWarehouse,
    Warehouse,
    open_warehouse,
    project_vars,
    read_target,
    write_when_free,
)

_WAIT_SECONDS = 600.0


def ladder_table(judged: Sequence[Judged]) -> str:
    """One line per rung."""
    honest = judged[-1].auc
    lines = []
    for j in judged:
        interval = (
            ""
            if math.isnan(j.session_auc_low)
            else f" [{j.session_auc_low:.3f}, {j.session_auc_high:.3f}]"
        )
        lines.append(
            [
                j.rung.name,
                j.rung.mistake,
                f"{j.auc:.3f}",
                f"{j.auc - honest:+.3f}",
                f"{j.session_auc:.3f}{interval}",
                f"{j.rows:,}",
            ]
        )
    header = ("protocol", "still wrong", "AUC", "less honest", "AUC per session", "test rows")
    return text_table(header, lines, left=2)


def _ladders(warehouse: Warehouse, schema: str) -> list[dict[str, Any]]:
    names = ("market", "rung", "name", "auc")
    if not warehouse.has_table(schema, "protocol_ladder"):
        return []
    found = warehouse.read_rows(
        f'select {", ".join(names)} from "{schema}"."protocol_ladder" order by market, rung'
    )
    return [dict(zip(names, row, strict=True)) for row in found]


@click.command("ladder")
@click.option(
    "--name", default=None, help="What the rows are called (default: the layout of the prices)."
)
@click.option("--trees", default=100, show_default=True, help="Trees of every model.")
@click.option("--blocks", default=5, show_default=True, help="Test blocks of every protocol.")
@click.option("--stride", default=1, show_default=True, help="Use every so-manyth session.")
@click.option("--symbol-stride", default=1, show_default=True, help="And every so-manyth symbol.")
@click.option("--vars", "variables", default=None, help="Variables of dbt, as for dbt build.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=None)
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Draw every ladder of the warehouse to this SVG file.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="Further DuckDB warehouses whose ladders are drawn too.",
)
@click.pass_obj
def ladder_command(
    settings: dict[str, Any],
    *,
    name: str | None,
    trees: int,
    blocks: int,
    stride: int,
    symbol_stride: int,
    variables: str | None,
    config_file: Path | None,
    picture: Path | None,
    beside: tuple[Path, ...],
) -> None:
    """Judge the same model by seven protocols, from the careless to the honest one."""
    project_dir, target = settings["project_dir"], settings["target"]
    started = now()
    config = read_config(config_file)
    described = project_manifest(project_dir, None, target, variables)
    schema = described.results_schema
    with open_warehouse(project_dir, target, read_only=True) as warehouse:
        rows = read_rows(warehouse, described, config, stride, symbol_stride)
        market = name or data_name(warehouse, project_vars(project_dir, variables))
    judged = climb(rows, config, trees=trees, blocks=blocks, report=click.echo)
    table = ladder_rows(
        market,
        judged,
        trees=trees,
        stride=stride,
        git_commit=git_commit(project_dir),
        symbol_stride=symbol_stride,
    )
    contract = read_contract(project_dir, "ml")
    write_when_free(
        project_dir,
        target,
        _WAIT_SECONDS,
        click.echo,
        lambda warehouse: write_ladder(warehouse, schema, contract, market, table),
    )
    click.echo(ladder_table(judged))
    result = AuditResult(
        layer="ladder",
        target=read_target(project_dir, target).kind,
        market=market,
        started_at=started,
        passed=True,
        checked=len(judged),
        differences=0,
        summary=f"AUC {judged[0].auc:.3f} by the naive protocol, {judged[-1].auc:.3f} by the "
        f"honest one ({judged[-1].session_auc:.3f} per session)",
    )
    record_when_free(project_dir, target, schema, result, click.echo)
    if picture is not None:
        with open_warehouse(project_dir, target, read_only=True) as warehouse:
            drawn = _ladders(warehouse, schema)
        for path in beside:
            with DuckDBWarehouse(path, read_only=True) as other:
                drawn += _ladders(other, schema)
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(ladder_picture(drawn), encoding="utf-8")
        click.echo(f"{picture}: {len({r['market'] for r in drawn})} ladders")
