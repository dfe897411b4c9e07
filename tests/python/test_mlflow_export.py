"""A run in MLflow: everything there, and there once. Skipped where mlflow is not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from panel_fixture import SMALL, make_market, make_project

from ml.cli import main
from ml.mlflow_export import RUN_TAG, flat
from ml.warehouse import open_warehouse


def asxw(project, *arguments):
    return CliRunner().invoke(main, ["--project-dir", str(project), *arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    overlay = {**SMALL, "folds": {"blocks": 2, "holdout": 42}, "evaluation": {"replicates": 10}}
    project = make_project(tmp_path_factory.mktemp("mlflow") / "p", make_market(40, 330), overlay)
    done = asxw(project, "train", "--config", str(project / "small.yml"))
    assert done.exit_code == 0, done.output
    with open_warehouse(project, read_only=True) as warehouse:
        return project, warehouse.read_rows("select run_id from ml.runs")[0][0]


def test_parameters_get_dotted_names():
    content = {"folds": {"blocks": 2, "inner": {"x": [1, 2]}}, "name": "a"}
    assert dict(flat(content)) == {"folds.blocks": "2", "folds.inner.x": "[1, 2]", "name": "a"}


def test_without_mlflow_the_extra_is_named(tmp_path, monkeypatch):
    project = make_project(tmp_path / "p", make_market(5, 60))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    done = asxw(project, "export-mlflow", "any")
    assert done.exit_code == 1 and "asx-warehouse[mlflow]" in done.stderr


def test_a_run_is_written_whole_and_once(trained, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    project, run_id = trained
    store = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow.MlflowClient(store)
    client.create_experiment("direction_21", artifact_location=(tmp_path / "files").as_uri())
    first = asxw(project, "export-mlflow", run_id, "--tracking-uri", store)
    assert first.exit_code == 0, first.output
    assert "written" in first.stdout
    again = asxw(project, "export-mlflow", run_id, "--tracking-uri", store)
    assert "was there already" in again.stdout

    experiment = client.get_experiment_by_name("direction_21")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags[RUN_TAG] == run_id and run.info.status == "FINISHED"
    assert run.data.params["folds.blocks"] == "2"
    with open_warehouse(project, read_only=True) as warehouse:
        rows = warehouse.read_rows(
            "select predictor, segment, metric, value, ci_high from ml.metrics where fold = 0"
        )
        folds = dict(
            warehouse.read_rows(
                "select fold, value from ml.metrics where fold > 0 and predictor = 'lightgbm' "
                "and segment = 'all' and metric = 'rmse'"
            )
        )
    for predictor, segment, name, value, high in rows:
        key = f"{predictor}/{segment}/{name}"
        assert run.data.metrics[key] == value
        assert high is None or run.data.metrics[f"{key}/ci_high"] == high
    history = client.get_metric_history(run.info.run_id, "folds/lightgbm/all/rmse")
    assert {m.step: m.value for m in history} == folds and len(folds) == 2
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert {"classifier.txt", "regressor.txt", "manifest.json", f"{run_id}.zip"} <= files
    file = client.download_artifacts(run.info.run_id, "manifest.json", str(tmp_path))
    assert json.loads(Path(file).read_text(encoding="utf-8"))["run_id"] == run_id
    done = asxw(project, "export-mlflow", "nobody", "--tracking-uri", store)
    assert done.exit_code == 1 and "There is no run nobody" in done.stderr
