"""`asxw audit replay`."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from ml.audit.as_of import read_rules, spread_dates
from ml.audit.record import AuditResult, now, record_when_free
from ml.audit.replay import SESSIONS, Place, audit_result, outcome_text, replay
from ml.errors import AsxwError
from ml.manifest import manifest_file, project_models
from ml.warehouse import given_vars, open_when_free, project_vars, read_target

_WAIT_SECONDS = 600.0
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _conclude(settings: dict[str, Any], schema: str, result: AuditResult) -> None:
    record_when_free(settings["project_dir"], settings["target"], schema, result, _say)
    verdict = "passed" if result.passed else "FAILED"
    click.echo(f"{result.layer} on {result.market} ({result.target}) {verdict}: {result.summary}")
    if not result.passed:
        sys.exit(1)


def _times(texts: tuple[str, ...]) -> list[datetime]:
    """Days, meaning their first moment, or times, separated by commas or blanks."""
    found = []
    for text in " ".join(texts).replace(",", " ").replace("T", "_").split():
        try:
            found.append(datetime.fromisoformat(text.replace("_", " ")))
        except ValueError as error:
            raise AsxwError(f"--dates takes days such as 2025-06-30, not {text}.") from error
    return found


@click.command("replay")
@click.option(
    "--dates",
    multiple=True,
    metavar="DAY[,DAY...]",
    help="Build as known before these days, or times of the market such as 2025-06-30T17:00 "
    "(default: --count days spread over the history).",
)
@click.option("--count", default=3, show_default=True, help="So many days, without --dates.")
@click.option("--vars", "variables", default=None, help="Variables of the full build, as for dbt.")
@click.option(
    "--manifest",
    type=_FILE,
    default=None,
    help="manifest.json of the full build (default: target/).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="CSV of every cell that differs (default: outputs/replay_differences.csv).",
)
@click.option("--allow-rounding", is_flag=True, help="Pass where last digits alone differ.")
@click.option("--keep", is_flag=True, help="Leave the as-of builds in the warehouse.")
@click.pass_obj
def replay_command(
    settings: dict[str, Any],
    *,
    dates: tuple[str, ...],
    count: int,
    variables: str | None,
    manifest: Path | None,
    out: Path | None,
    allow_rounding: bool,
    keep: bool,
) -> None:
    """Build the warehouse as known at past times and compare every row up to then.

    The full build must be there already. Each as-of build goes into schemas of its own, which are
    dropped again. A difference ends with exit code 1 and a list of every cell.
    """
    started = now()
    project_dir, target = settings["project_dir"], settings["target"]
    given = given_vars(variables)
    laid_over = project_vars(project_dir) | given
    models = project_models(manifest_file(project_dir, manifest, target, None))
    rules = read_rules(models)
    place = Place(
        project_dir=project_dir,
        target=target,
        variables={k: laid_over[k] for k in {*given, "schema_prefix", "raw_schema", "market"}},
        models=models,
        folder=project_dir / os.environ.get("DBT_TARGET_PATH", "target") / "as_of",
        open_warehouse=lambda: open_when_free(project_dir, target, _WAIT_SECONDS, _say),
    )
    times = _times(dates)
    if not times:
        with place.open_warehouse() as warehouse:
            days = spread_dates(warehouse, models[SESSIONS].relation, count)
        times = [datetime.combine(d + timedelta(days=1), datetime.min.time()) for d in days]
    listing = out or project_dir / "outputs" / "replay_differences.csv"
    outcomes = replay(place, rules, times, _say, listing, keep=keep)
    engine = read_target(project_dir, target).kind
    result = audit_result(place, rules, outcomes, started, engine, allow_rounding=allow_rounding)
    text = outcome_text(outcomes)
    if text:
        click.echo(f"{text}\nEvery cell: {listing}")
    _conclude(settings, f"{laid_over.get('schema_prefix', '')}ml", result)
