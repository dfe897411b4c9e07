"""The command `asxw parity`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ml.errors import AsxwError
from ml.manifest import public_marts
from ml.parity import compare, report
from ml.warehouse import open_warehouse


@click.command("parity")
@click.argument("other_target", metavar="TARGET")
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="dbt's manifest.json (default: target/).",
)
@click.pass_obj
def parity_command(settings: dict[str, Any], other_target: str, manifest: Path | None) -> None:
    """Compare every public mart with that of TARGET, another target of the profile.

    Both must be built from the same data. Doubles agree to 1e-9 (1e-6 for skewness, slopes and
    what they enter), everything else exactly; a difference ends with exit code 1.
    """
    project_dir = settings["project_dir"]
    marts = public_marts(project_dir, manifest, settings["target"])
    with (
        open_warehouse(project_dir, settings["target"], read_only=True) as left,
        open_warehouse(project_dir, other_target, read_only=True) as right,
    ):
        if left.place == right.place:
            raise AsxwError(f"{other_target} is the warehouse itself. Name another target.")
        compared = compare(left, right, marts, lambda line: click.echo(line, err=True))
    click.echo(report(compared))
    if any(c.different for c in compared):
        sys.exit(1)
