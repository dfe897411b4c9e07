"""`asxw export-mlflow`: a run's parameters, metrics and files in an MLflow tracking server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from ml.artifacts import load_artifact, run_folder
from ml.errors import AsxwError
from ml.manifest import project_manifest
from ml.scoring import find_run
from ml.warehouse import Warehouse, open_warehouse

RUN_TAG = "asxw.run_id"
_BATCH = 500


@dataclass(frozen=True)
class Exported:
    """Where a run is in MLflow, and whether it was there before."""

    experiment: str
    mlflow_run_id: str
    is_new: bool


def _mlflow() -> Any:
    try:
        import mlflow  # noqa: PLC0415 (an optional extra)
    except ImportError as error:
        raise AsxwError(
            "asxw export-mlflow needs mlflow, which is not installed: "
            "pip install 'asx-warehouse[mlflow]'."
        ) from error
    return mlflow


def flat(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Nested parameters as (dotted place, text)."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value if isinstance(value, str) else json.dumps(value)


def _metrics(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """(name, value, step) of every metric and interval end; the step is the fold."""
    for row in rows:
        # MLflow takes letters, digits, spaces and _ - . : /
        name = f"{row['predictor']}/{row['segment']}/{row['metric']}"
        scope = {0: "", -1: "holdout/"}.get(row["fold"], "folds/")
        step = max(int(row["fold"]), 0)
        for part, value in (
            ("", row["value"]),
            ("/ci_low", row["ci_low"]),
            ("/ci_high", row["ci_high"]),
        ):
            if value is not None and math.isfinite(value):
                yield f"{scope}{name}{part}", float(value), step


def export_run(
    warehouse: Warehouse,
    schema: str,
    run_id: str,
    *,
    artifacts: Path,
    tracking_uri: str | None,
    experiment: str | None,
) -> Exported:
    """Write a run to MLflow, once: a run that is there already is left alone.

    Args:
        warehouse: open connection.
        schema: of the result tables.
        run_id: the run.
        artifacts: root of saved models.
        tracking_uri: of the MLflow server or store; None: as MLflow itself finds it.
        experiment: name; None: the model's name.

    Raises:
        AsxwError: there is no such run, its files are altered, mlflow is not installed, or the
            server refuses.
    """
    mlflow = _mlflow()
    model_name, run_id = find_run(warehouse, schema, run_id)
    load_artifact(artifacts, model_name, run_id)
    (row,) = warehouse.read_arrow(
        f'select * from "{schema}"."runs" where run_id = ?', (run_id,)
    ).to_pylist()
    metrics = warehouse.read_arrow(
        f'select * from "{schema}"."metrics" where run_id = ? '
        "order by fold, predictor, segment, metric",
        (run_id,),
    ).to_pylist()
    name = experiment or model_name
    try:
        client = mlflow.MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(name)
        experiment_id = found.experiment_id if found else client.create_experiment(name)
        there = client.search_runs(
            [experiment_id], f"tags.\"{RUN_TAG}\" = '{run_id}' and attributes.status = 'FINISHED'"
        )
        if there:
            return Exported(name, there[0].info.run_id, False)
        created = int(row["created_at"].replace(tzinfo=UTC).timestamp() * 1000)
        run = client.create_run(experiment_id, start_time=created, run_name=run_id)
        exported = run.info.run_id
        _write(mlflow, client, exported, row, metrics, created)
        client.log_artifacts(exported, str(run_folder(artifacts, model_name, run_id)))
        # last, so that a run that was interrupted is not taken for a whole one
        client.set_terminated(exported, "FINISHED")
    except mlflow.exceptions.MlflowException as error:
        raise AsxwError(f"MLflow refused run {run_id}: {error}") from error
    return Exported(name, exported, True)


def _write(
    mlflow: Any,
    client: Any,
    exported: str,
    row: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    created: int,
) -> None:
    """Tags, parameters and metrics of a run."""
    entities = mlflow.entities
    tags = {
        RUN_TAG: row["run_id"],
        **{
            f"asxw.{key}": str(row[key])
            for key in ("trained_through", "label", "panel_checksum", "git_commit", "n_rows")
            if row[key] is not None
        },
    }
    client.log_batch(exported, tags=[entities.RunTag(k, v) for k, v in tags.items()])
    parameters = [
        entities.Param(key, value) for key, value in flat(json.loads(row["parameters_json"]))
    ]
    for start in range(0, len(parameters), 100):
        client.log_batch(exported, params=parameters[start : start + 100])
    values = [entities.Metric(key, value, created, step) for key, value, step in _metrics(metrics)]
    for start in range(0, len(values), _BATCH):
        client.log_batch(exported, metrics=values[start : start + _BATCH])


@click.command("export-mlflow")
@click.argument("run_id")
@click.option("--tracking-uri", default=None, help="MLflow server or store (default: MLflow's).")
@click.option("--experiment", default=None, help="Experiment (default: the model's name).")
@click.option(
    "--artifacts",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Root of saved models (default: artifacts/).",
)
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="dbt's manifest.json (default: target/).",
)
@click.pass_obj
def export_mlflow_command(
    settings: dict[str, Any],
    *,
    run_id: str,
    tracking_uri: str | None,
    experiment: str | None,
    artifacts: Path | None,
    manifest: Path | None,
) -> None:
    """Write RUN_ID to MLflow: parameters, metrics with their intervals, and the files."""
    project_dir, target = settings["project_dir"], settings["target"]
    described = project_manifest(project_dir, manifest, target)
    with open_warehouse(project_dir, target, read_only=True) as warehouse:
        done = export_run(
            warehouse,
            described.results_schema,
            run_id,
            artifacts=artifacts or project_dir / "artifacts",
            tracking_uri=tracking_uri,
            experiment=experiment,
        )
    state = "written" if done.is_new else "was there already"
    click.echo(f"{run_id}: {state}, experiment {done.experiment}, run {done.mlflow_run_id}")
