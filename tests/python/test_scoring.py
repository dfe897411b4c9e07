"""Scores are forecasts of saved runs, equal to the same row's score in the panel."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from panel_fixture import make_market, make_project

from ml.artifacts import load_artifact
from ml.cli import main
from ml.dataset import matrix_of, read_panel
from ml.manifest import Relation
from ml.training import predict
from ml.warehouse import open_warehouse

OVERLAY = {
    "classifier": {"trees_final": 8, "trees_fold": 3},
    "regressor": {"trees_final": 8, "trees_fold": 3},
    "lightgbm": {"num_leaves": 8},
    "folds": {"blocks": 2, "holdout": 42},
    "evaluation": {"replicates": 20},
    "threads": 1,
}


def asxw(project, *arguments):
    return CliRunner().invoke(main, ["--project-dir", str(project), *arguments])


def query(project, sql):
    with open_warehouse(project, read_only=True) as warehouse:
        return warehouse.read_rows(sql)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("scored") / "p", make_market(30, 320), OVERLAY)
    done = asxw(folder, "train", "--config", str(folder / "small.yml"))
    assert done.exit_code == 0, done.output
    return folder


def test_the_latest_session_is_scored_and_replaced_when_scored_again(project):
    first = asxw(project, "score")
    assert first.exit_code == 0, first.output
    rows = query(project, "select * from ml.predictions order by symbol")
    universe = query(
        project,
        "select symbol from marts.fct_features_daily "
        "where is_traded and is_in_universe and trade_date = "
        "(select max(trade_date) from marts.fct_features_daily) order by symbol",
    )
    assert [(r[1],) for r in rows] == universe
    assert f"{len(rows)} symbols scored" in first.output
    assert asxw(project, "score").exit_code == 0
    assert query(project, "select * from ml.predictions order by symbol") == rows


def test_training_always_ends_before_the_scored_session(project):
    assert asxw(project, "score").exit_code == 0
    assert query(
        project, "select count(*) from ml.predictions where trained_through >= trade_date"
    ) == [(0,)]


def test_the_ten_highest_expected_returns_are_shown(project):
    done = asxw(project, "score")
    shown = [line.split()[0] for line in done.output.splitlines()[2:]]
    best = query(
        project, "select symbol from ml.predictions order by expected_return desc, symbol limit 10"
    )
    assert shown == [symbol for (symbol,) in best]


def test_a_session_the_model_has_seen_is_refused(project):
    through = query(project, "select trained_through from ml.runs")[0][0]
    before = query(project, "select count(*) from ml.predictions")
    done = asxw(project, "score", "--as-of", through.isoformat())
    assert done.exit_code == 1
    assert "would not be forecasts" in done.stderr
    assert query(project, "select count(*) from ml.predictions") == before


def test_a_day_before_all_sessions_and_an_unknown_run_are_clear_errors(project):
    done = asxw(project, "score", "--as-of", "1999-01-01")
    assert done.exit_code == 1 and "no session on or before 1999-01-01" in done.stderr
    done = asxw(project, "score", "--run", "nobody")
    assert done.exit_code == 1 and "There is no run nobody; the latest are: dir" in done.stderr


def test_a_run_can_be_named(project):
    run_id = query(project, "select run_id from ml.runs")[0][0]
    done = asxw(project, "score", "--run", run_id)
    assert done.exit_code == 0 and run_id in done.output


def test_rows_in_the_panel_get_the_same_score(project):
    run_id, model_name = query(project, "select run_id, model_name from ml.runs")[0]
    artifact = load_artifact(project / "artifacts", model_name, run_id)
    features = artifact.card.features
    panel_table = Relation("intermediate", "int_training_panel")
    with open_warehouse(project) as warehouse:
        panel = read_panel(warehouse, panel_table, features)
        daily = warehouse.read_arrow(
            f"select d.{', d.'.join(features)} from marts.fct_features_daily as d "
            "inner join intermediate.int_training_panel as p using (symbol, trade_date) "
            "order by trade_date, symbol"
        )
    from_panel = predict(artifact.classifier, artifact.regressor, 1.0, panel.values, 1)
    from_daily = predict(
        artifact.classifier, artifact.regressor, 1.0, matrix_of(daily, features), 1
    )
    np.testing.assert_array_equal(from_panel, from_daily)


def test_without_a_run_or_its_files_scoring_says_what_to_do(project, tmp_path):
    empty = make_project(tmp_path / "p", make_market(5, 60))
    done = asxw(empty, "score")
    assert done.exit_code == 1 and "run `asxw train`" in done.stderr
    done = asxw(project, "score", "--artifacts", str(tmp_path / "nowhere"))
    assert done.exit_code == 1 and "no complete artifacts" in done.stderr


def test_a_feature_that_left_the_table_is_named(tmp_path):
    folder = make_project(tmp_path / "p", make_market(20, 300), OVERLAY)
    assert asxw(folder, "train", "--config", str(folder / "small.yml")).exit_code == 0
    with open_warehouse(folder) as warehouse:
        warehouse.execute("alter table marts.fct_features_daily rename signal to signals")
    done = asxw(folder, "score")
    assert done.exit_code == 1 and "lacks signal" in done.stderr
    assert query(folder, "select count(*) from ml.runs") == [(1,)]
