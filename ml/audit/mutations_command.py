"""`asxw audit mutations`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from ml.audit.mutations import LAYERS, MutationAudit, audit_mutations
from ml.audit.record import AuditResult, now, record_when_free
from ml.errors import AsxwError
from ml.text_table import text_table
from ml.warehouse import project_vars


def mutation_table(audit: MutationAudit) -> str:
    """One line per mutation: which layer caught it, which did not, which was not asked."""
    lines = []
    for outcome in audit.outcomes:
        marks = [
            "caught" if layer in outcome.caught_by else "passed" if layer in outcome.asked else ""
            for layer in LAYERS
        ]
        lines.append([outcome.mutation.name, *marks, outcome.evidence[:70]])
    return text_table(("leak", *LAYERS, "first said"), lines, left=len(LAYERS) + 2)


@click.command("mutations")
@click.option(
    "--every-layer", is_flag=True, help="Ask every layer, not only until one caught the leak."
)
@click.option("--record/--no-record", default=True, help="Whether ml.audits gets a row.")
@click.pass_obj
def mutations_command(settings: dict[str, Any], every_layer: bool, record: bool) -> None:
    """Inject known leaks into a copy of the project, one at a time: is each of them caught?"""
    project_dir: Path = settings["project_dir"]
    variables = project_vars(project_dir)
    started = now()
    with tempfile.TemporaryDirectory() as scratch:
        audit = audit_mutations(
            project_dir, Path(scratch) / "project", every_layer=every_layer, report=click.echo
        )
    click.echo(mutation_table(audit))
    summary = (
        f"mutation score {audit.caught}/{len(audit.outcomes)}, "
        f"{len(audit.false_alarms)} false alarms"
    )
    click.echo(summary)
    if record:
        result = AuditResult(
            layer="mutations",
            target="duckdb",
            market="sample",
            started_at=started,
            passed=audit.passed,
            checked=len(audit.outcomes),
            differences=len(audit.outcomes) - audit.caught + len(audit.false_alarms),
            summary=summary,
            details={
                "false_alarms": audit.false_alarms,
                "mutations": {
                    o.mutation.name: {"caught_by": o.caught_by, "evidence": o.evidence}
                    for o in audit.outcomes
                },
            },
        )
        schema = f"{variables.get('schema_prefix', '')}ml"
        record_when_free(project_dir, settings["target"], schema, result, click.echo)
    if not audit.passed:
        raise AsxwError(f"{summary}: a leak was not caught, or a layer is not silent without one.")
