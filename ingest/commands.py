"""The commands `asxw load` and `asxw calendar`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from ingest.calendar import SEED, write_sessions
from ingest.loader import LoadResult, load
from ml.text_table import text_table
from ml.warehouse import read_project


@click.command("load")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    required=True,
    help="A shipped layout (asx, us, symbol_csv, sample) or the path of your own YAML file.",
)
@click.option(
    "--received-at",
    type=click.DateTime(["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"]),
    default=None,
    help="When the data arrived, market local time (default: now). Corrections count from then.",
)
@click.option("--raw-schema", default=None, help="Schema of the raw tables (default: the var).")
@click.option(
    "--set-aside",
    is_flag=True,
    help="Where the warehouse holds another layout's prices, rename it and begin a new one.",
)
@click.pass_context
def load_command(
    ctx: click.Context,
    folder: Path,
    layout: str,
    received_at: dt.datetime | None,
    raw_schema: str | None,
    set_aside: bool,
) -> None:
    """Load a folder of vendor files into the raw tables: all of it, or nothing.

    Loading the same files again changes nothing. Rows that break the contract go to
    raw.rejected_rows with the reason.
    """
    project_dir, target = ctx.obj["project_dir"], ctx.obj["target"]

    def progress(line: str) -> None:
        click.echo(line, err=True)

    result = load(
        folder,
        layout,
        project_dir,
        target=target,
        received_at=received_at,
        raw_schema=raw_schema,
        set_aside=set_aside,
        progress=progress,
    )
    click.echo(report(result))


def report(result: LoadResult) -> str:
    """The counts of a load as a text table, and the most frequent reasons for rejections."""
    head = ("table", "file", "read", "loaded", "unchanged", "rejected")
    rows = [
        (c.table, c.file, f"{c.read:,}", f"{c.loaded:,}", f"{c.unchanged:,}", f"{c.rejected:,}")
        for c in result.counts
    ]
    lines = [text_table(head, rows, left=2)]
    rejected = [
        f"  {table}: {count:,} x {reason}"
        for table, reasons in result.reasons.items()
        for reason, count in reasons
    ]
    if rejected:
        lines += ["", "Rejected rows are in rejected_rows. Most frequent reasons:", *rejected]
    return "\n".join(lines)


@click.command("calendar")
@click.pass_context
def calendar_command(ctx: click.Context) -> None:
    """Write seeds/market_sessions.csv again from the exchanges' calendars."""
    project_dir = ctx.obj["project_dir"]
    read_project(project_dir)
    path = project_dir / SEED
    click.echo(f"{write_sessions(path):,} sessions written to {path}")
