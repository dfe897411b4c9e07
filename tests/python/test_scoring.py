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
from ml.reasons import _wording
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


def test_the_parts_of_a_score_add_up_to_it(project):
    assert asxw(project, "score", "--reasons", "3").exit_code == 0
    run_id, model_name = query(project, "select run_id, model_name from ml.runs")[0]
    artifact = load_artifact(project / "artifacts", model_name, run_id)
    features = artifact.card.features
    with open_warehouse(project, read_only=True) as warehouse:
        scored = warehouse.read_arrow(
            f"select p.*, f.{', f.'.join(features)} from ml.predictions as p "
            "inner join marts.fct_features_daily as f using (symbol, trade_date) order by symbol"
        )
        reasons = warehouse.read_arrow("select * from ml.reasons").to_pandas()
    values = matrix_of(scored, features)
    symbols = scored.column("symbol").to_pylist()
    probability = scored.column("probability_up").to_numpy()
    scores = {
        "classifier": np.log(probability / (1 - probability)),
        "regressor": scored.column("expected_return").to_numpy(),
    }
    # without class weighting the classifier's raw score is this much higher
    raw = artifact.classifier.predict(values, raw_score=True)
    shift = np.log(artifact.card.positive_weight)
    np.testing.assert_allclose(raw - shift, scores["classifier"], atol=1e-9)
    boosters = {"classifier": artifact.classifier, "regressor": artifact.regressor}
    assert len(reasons) == 2 * 5 * len(symbols)
    for head, wanted in scores.items():
        rows = reasons[reasons["head"] == head]
        summed = rows.groupby("symbol").contribution.sum().loc[symbols]
        np.testing.assert_allclose(summed, wanted, atol=1e-9)
        parts = boosters[head].predict(values, pred_contrib=True)[:, :-1]
        named = rows[rows.part == "feature"].sort_values("place")
        for i, symbol in enumerate(symbols):
            largest = np.sort(np.abs(parts[i]))[::-1][:3]
            told = named[named.symbol == symbol]
            np.testing.assert_allclose(told.contribution.abs(), largest, atol=1e-12)
            for _, row in told.iterrows():
                j = features.index(row.feature)
                assert row.contribution == parts[i, j]
                np.testing.assert_equal(np.float32(row.feature_value), np.float32(values[i, j]))
                assert np.isnan(values[i, j]) or len(repr(row.feature_value)) <= 16
                known = values[~np.isnan(values[:, j]), j]
                if np.isnan(values[i, j]):
                    assert np.isnan(row.value_place) and "is unknown" in row.reason
                else:
                    below = (known < values[i, j]).mean() + (known == values[i, j]).mean() / 2
                    assert row.value_place == pytest.approx(below)
                assert ("raises" in row.reason) == (row.contribution > 0)


def test_reasons_go_with_their_predictions(project):
    done = asxw(project, "score")
    assert "largest parts" in done.output
    (most,) = query(project, "select max(place) from ml.reasons where part = 'feature'")[0]
    assert most == 5
    done = asxw(project, "score", "--reasons", "0")
    assert done.exit_code == 0 and "largest parts" not in done.output
    assert query(project, "select count(*) from ml.reasons") == [(0,)]


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


@pytest.mark.parametrize(
    ("place", "said"),
    [(0.999, "higher than 99 %"), (0.5, "higher than 50 %"), (0.3, "lower than 70 %"),
     (0.001, "lower than 99 %")],
)  # fmt: skip
def test_a_reason_says_where_a_value_stands(place, said):
    """The highest value is higher than all others, and never than 100 % of shares."""
    assert said in _wording("classifier", "mom_1", 0.2, place, 0.1)
