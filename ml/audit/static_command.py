"""`asxw audit static`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from ml.audit.record import AuditResult, now, record_when_free
from ml.audit.static import DIALECTS, audit_static
from ml.errors import AsxwError
from ml.text_table import text_table
from ml.warehouse import project_vars


@click.command("static")
@click.option("--record/--no-record", default=True, help="Whether ml.audits gets a row.")
@click.pass_obj
def static_command(settings: dict[str, Any], record: bool) -> None:
    """Search the graph, the SQL of both engines and the training code for looks ahead."""
    project_dir: Path = settings["project_dir"]
    variables = project_vars(project_dir)
    started = now()
    with tempfile.TemporaryDirectory() as scratch:
        audit = audit_static(project_dir, Path(scratch))
    found = audit.findings
    if found:
        lines = [[f.rule, f.where, f.place, f.what] for f in found]
        click.echo(text_table(("rule", "where", "place", "what"), lines, left=4))
    summary = (
        f"{audit.models} compiled models and the training code, {audit.rules} rules: "
        f"{len(found)} findings, {len(audit.exceptions)} exceptions with a reason"
    )
    click.echo(summary)
    if record:
        result = AuditResult(
            layer="static",
            target="+".join(DIALECTS.values()),
            market=str(variables["market"]),
            started_at=started,
            passed=not found,
            checked=audit.models * audit.rules,
            differences=len(found),
            summary=summary,
            details={"findings": [vars(f) for f in found]},
        )
        schema = f"{variables.get('schema_prefix', '')}ml"
        record_when_free(project_dir, settings["target"], schema, result, click.echo)
    if found:
        raise AsxwError("Something looks ahead, or an exception is stale: see the table above.")
