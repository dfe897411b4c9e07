"""The notebook trains from the exported files alone, and gets the numbers of `asxw train`."""

from __future__ import annotations

import json
import shutil

import lightgbm as lgb
import pytest
from click.testing import CliRunner
from panel_fixture import REPOSITORY, make_market, make_project

from ml.cli import main
from ml.warehouse import open_warehouse

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow

NOTEBOOK = REPOSITORY / "notebooks" / "train_from_parquet.ipynb"
OVERLAY = {
    "classifier": {"trees_final": 6, "trees_fold": 6},
    "regressor": {"trees_final": 6, "trees_fold": 6, "lightgbm": {"num_leaves": 8}},
    "lightgbm": {"num_leaves": 8},
    "folds": {"blocks": 3, "holdout": 42},
    "evaluation": {"replicates": 20, "permutation_rows": 0},
    "threads": 1,
}


def execute(folder):
    """Run every cell in a folder with nothing but the exported files."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return notebook


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A trained project, and a folder with its exported panel."""
    project = make_project(tmp_path / "p", make_market(40, 340), OVERLAY)
    for command in (["train", "--config", str(project / "small.yml")], ["export"]):
        done = CliRunner().invoke(main, ["--project-dir", str(project), *command])
        assert done.exit_code == 0, done.output
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("featureset_latest.parquet", "featureset_latest.json"):
        shutil.copy(project / "outputs" / name, folder)
    settings = {"TREES": "6", "LEAVES": "8", "BLOCKS": "3", "HOLDOUT": "42"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for name in ("FEATURESET_FOLDER", "MODEL_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    return project, folder


def test_the_notebook_gets_the_numbers_of_the_command(exported):
    project, folder = exported
    notebook = execute(folder)
    card = json.loads((folder / "model" / "model.json").read_text())
    with open_warehouse(project, read_only=True) as warehouse:
        rows = warehouse.read_rows(
            "select predictor, metric, value, ci_low, ci_high from ml.metrics "
            "where fold = 0 and segment = 'all'"
        )
    wanted = {(predictor, metric): numbers for predictor, metric, *numbers in rows}
    for name, key in {
        "model, AUC per session": ("lightgbm", "roc_auc_session"),
        "low volatility, AUC per session": ("neg_vol_60", "roc_auc_session"),
        "difference": ("lightgbm - neg_vol_60", "roc_auc_session"),
        "model, Rank IC": ("lightgbm", "rank_ic"),
    }.items():
        found = card["out_of_fold"][name]
        assert [found["value"], found["low"], found["high"]] == pytest.approx(wanted[key], abs=1e-9)
    booster = lgb.Booster(model_file=str(folder / "model" / "classifier.txt"))
    assert booster.feature_name() == card["features"] and booster.num_trees() == 6
    text = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "fold 3:" in text and "trained through" in text

    whole = (folder / "featureset_latest.parquet").read_bytes()
    (folder / "featureset_latest.parquet").write_bytes(whole[:-1])
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="copy both again"):
        execute(folder)


def test_the_notebook_is_committed_without_outputs_and_with_the_models_parameters():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in cells)
    code = "".join(c.source for c in cells)
    assert "import ml" not in code and "duckdb" not in code and "from ml" not in code
