"""The command `asxw sentiment`."""

from __future__ import annotations

import datetime as dt

import click

from ml.contract import read_contract
from ml.headline_sentiment import score_headlines
from ml.warehouse import open_warehouse, project_vars


@click.command("sentiment")
@click.option("--raw-schema", default=None, help="Schema of the raw tables (default: the var).")
@click.pass_context
def sentiment_command(ctx: click.Context, raw_schema: str | None) -> None:
    """Score announcement headlines with a lexicon, for announcements no vendor scored.

    Headlines scored before are left alone. The models use the scores with
    `dbt build --vars 'lexicon_sentiment: true'`.
    """
    project_dir, target = ctx.obj["project_dir"], ctx.obj["target"]
    schema = raw_schema or str(project_vars(project_dir)["raw_schema"])
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    with open_warehouse(project_dir, target) as warehouse:
        done = score_headlines(warehouse, schema, read_contract(project_dir, "raw"), now)
    click.echo(
        f"{done.scored:,} headlines scored, {done.with_tone:,} of them with a tone; "
        f"{done.known_before:,} were scored before."
    )
