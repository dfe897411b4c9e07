"""Where things are: the database file, rows by layer, folds and signals of the newest run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ml.text_table import text_table
from ml.warehouse import Warehouse, open_warehouse, project_vars

LAYERS = ("raw", "staging", "intermediate", "marts", "ml")
TOP_SIGNALS = 15


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    return text_table(header, [[_cell(value) for value in row] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def layer_rows(warehouse: Warehouse, schemas: dict[str, str]) -> list[tuple[Any, ...]]:
    """(layer.table, rows) of every stored table, layer by layer; views are left out."""
    rows: list[tuple[Any, ...]] = []
    for layer, schema in schemas.items():
        tables = warehouse.read_rows(
            "select table_name from information_schema.tables "
            "where table_schema = ? and table_type = 'BASE TABLE' order by table_name",
            (schema,),
        )
        for (table,) in tables:
            count = warehouse.read_rows(f'select count(*) from "{schema}"."{table}"')[0][0]
            rows.append((f"{layer}.{table}", count))
    return rows


FOLD_SQL = """
    select
        cast(m.fold as integer),
        max(f.first_session),
        max(f.last_session),
        max(f.n_rows),
        max(case when m.predictor = 'lightgbm' and m.metric = 'roc_auc_pooled' then m.value end),
        max(case when m.predictor = 'lightgbm' and m.metric = 'roc_auc_session' then m.value end),
        max(case when m.predictor = 'neg_vol_60' and m.metric = 'roc_auc_session' then m.value end),
        max(case when m.predictor = 'lightgbm' and m.metric = 'rank_ic' then m.value end),
        max(case when m.predictor = 'lightgbm' and m.metric = 'rmse' then m.value end),
        max(case when m.predictor = 'lightgbm' and m.metric = 'rmse_winsorised' then m.value end)
    from "{ml}".metrics as m
    left join "{ml}".folds as f
        on m.run_id = f.run_id and m.fold = f.fold and f.role = 'test'
    where m.run_id = ? and m.segment = 'all'
    group by m.fold
    order by case when m.fold = 0 then 1 else 0 end, m.fold
"""

FOLD_HEAD = (
    "fold",
    "first",
    "last",
    "rows",
    "AUC pooled",
    "AUC session",
    "-vol_60 session",
    "rank IC",
    "RMSE",
    "RMSE wins.",
)

SIGNAL_SQL = f"""
    select symbol, signal, cast(signal_rank as integer), probability_up, expected_return, close,
        sector
    from "{{marts}}".fct_signals_latest
    order by signal_rank
    limit {TOP_SIGNALS}
"""


def describe(warehouse: Warehouse, schemas: dict[str, str]) -> str:
    """The whole status text; parts that do not exist yet say which command makes them."""
    parts = [f"Database: {warehouse.place}", ""]
    parts += [_table(("table", "rows"), layer_rows(warehouse, schemas)), ""]
    runs = (
        warehouse.read_rows(
            f'select run_id, trained_through from "{schemas["ml"]}".runs order by created_at desc'
        )
        if warehouse.has_table(schemas["ml"], "runs")
        else []
    )
    if not runs:
        return "\n".join([*parts, "No training run yet: asxw train."])
    run_id, through = runs[0]
    folds = warehouse.read_rows(FOLD_SQL.format(ml=schemas["ml"]), (run_id,))
    named = [("all" if row[0] == 0 else str(row[0]), *row[1:]) for row in folds]
    parts += [f"Newest run {run_id}, trained through {through}; out of fold:"]
    parts += [_table(FOLD_HEAD, named), ""]
    if not warehouse.has_table(schemas["marts"], "fct_signals_latest"):
        return "\n".join([*parts, "No signals yet: asxw score, then dbt build."])
    signals = warehouse.read_rows(SIGNAL_SQL.format(marts=schemas["marts"]))
    head = ("symbol", "signal", "rank", "probability", "expected return", "close", "sector")
    session = warehouse.read_rows(
        f'select max(trade_date) from "{schemas["marts"]}".fct_signals_latest'
    )[0][0]
    parts += [f"Signals of {session}, highest probability first:", _table(head, signals)]
    return "\n".join(parts)


@click.command("status")
@click.option("--schema-prefix", default=None, help="Prefix of the schemas (default: the var).")
@click.pass_context
def status_command(ctx: click.Context, schema_prefix: str | None) -> None:
    """Show where things are: database, rows by layer, folds and signals of the newest run."""
    project_dir: Path = ctx.obj["project_dir"]
    variables = project_vars(project_dir)
    prefix = variables.get("schema_prefix", "") if schema_prefix is None else schema_prefix
    schemas = {
        layer: variables["raw_schema"] if layer == "raw" else f"{prefix}{layer}" for layer in LAYERS
    }
    with open_warehouse(project_dir, ctx.obj["target"], read_only=True) as warehouse:
        click.echo(describe(warehouse, schemas))
