"""`asxw`: one command for everything that is not dbt."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ingest.commands import calendar_command, load_command
from ingest.sample_commands import sample_market_command
from ml.audit.commands import audit_group
from ml.commands import (
    ablation_command,
    export_command,
    model_card_command,
    promote_command,
    report_command,
    score_command,
    train_command,
    tune_command,
)
from ml.errors import AsxwError
from ml.grants import grant_command
from ml.mlflow_export import export_mlflow_command
from ml.parity_command import parity_command
from ml.postgres_command import postgres_group
from ml.publish import publish_command
from ml.sentiment_command import sentiment_command
from ml.status import status_command


class _Group(click.Group):
    """Prints an AsxwError as one clear text on stderr, exit code 1, instead of a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except AsxwError as error:
            click.echo(f"asxw: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--project-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder with dbt_project.yml (default: the current folder).",
)
@click.option("--target", default=None, help="Target of the dbt profile (default: the profile's).")
@click.pass_context
def main(ctx: click.Context, project_dir: Path, target: str | None) -> None:
    """Load data, train, score and export: everything in the warehouse that is not dbt."""
    ctx.obj = {"project_dir": project_dir.resolve(), "target": target}


main.add_command(load_command)
main.add_command(calendar_command)
main.add_command(sample_market_command)
main.add_command(train_command)
main.add_command(tune_command)
main.add_command(ablation_command)
main.add_command(promote_command)
main.add_command(score_command)
main.add_command(report_command)
main.add_command(model_card_command)
main.add_command(export_command)
main.add_command(export_mlflow_command)
main.add_command(sentiment_command)
main.add_command(status_command)
main.add_command(parity_command)
main.add_command(grant_command)
main.add_command(publish_command)
main.add_command(postgres_group)
main.add_command(audit_group)
