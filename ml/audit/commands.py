"""`asxw audit`: the commands that prove nothing looks ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ml.audit.invariance_command import invariance_command
from ml.audit.ladder_command import ladder_command
from ml.audit.mutations_command import mutations_command
from ml.audit.record import collect
from ml.audit.replay_command import replay_command
from ml.audit.static_command import static_command
from ml.errors import AsxwError
from ml.text_table import text_table
from ml.warehouse import DuckDBWarehouse, Warehouse, open_warehouse, project_vars


@click.group("audit")
def audit_group() -> None:
    """Prove that no row of the warehouse knows more than it could have known."""


@audit_group.command("list")
@click.option("--last", default=20, show_default=True, help="How many, the latest first.")
@click.pass_obj
def list_command(settings: dict[str, Any], last: int) -> None:
    """Show the audits on record."""
    project_dir = settings["project_dir"]
    schema = f"{project_vars(project_dir).get('schema_prefix', '')}ml"
    columns = ("finished_at", "layer", "market", "target", "passed", "checked", "differences")
    rows: list[tuple[Any, ...]] = []
    with open_warehouse(project_dir, settings["target"], read_only=True) as warehouse:
        if warehouse.has_table(schema, "audits"):
            rows = warehouse.read_rows(
                f'select {", ".join(columns)}, summary from "{schema}"."audits" '
                "order by finished_at desc, audit_id limit ?",
                (last,),
            )
    if not rows:
        click.echo("No audit is on record yet.")
        return
    lines = []
    for at, layer, market, engine, passed, checked, differences, summary in rows:
        counts = (f"{checked:,}", f"{differences:,}")
        verdict = "yes" if passed else "NO"
        lines.append([f"{at:%Y-%m-%d %H:%M}", layer, market, engine, verdict, *counts, summary])
    click.echo(text_table([*columns, "summary"], lines, left=4))


@audit_group.command("collect")
@click.argument("source", metavar="TARGET_OR_FILE")
@click.pass_obj
def collect_command(settings: dict[str, Any], source: str) -> None:
    """Take over the audits on record elsewhere: another target of the profile, or a DuckDB file."""
    project_dir, target = settings["project_dir"], settings["target"]
    schema = f"{project_vars(project_dir).get('schema_prefix', '')}ml"
    file = Path(source)
    other: Warehouse = (
        DuckDBWarehouse(file, read_only=True)
        if file.is_file()
        else open_warehouse(project_dir, source, read_only=True)
    )
    with other, open_warehouse(project_dir, target) as warehouse:
        if other.place == warehouse.place:
            raise AsxwError(f"{source} is the warehouse itself. Name another one.")
        new = collect(warehouse, schema, project_dir, other)
        click.echo(f"{new} audits taken over from {other.place} to {warehouse.place}")


audit_group.add_command(replay_command)
audit_group.add_command(static_command)
audit_group.add_command(mutations_command)
audit_group.add_command(invariance_command)
audit_group.add_command(ladder_command)
