"""The search for parameters: nested, written down trial by trial, and resumable."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from panel_fixture import SMALL, make_market, make_project

from ml.cli import main
from ml.config import Range, TuneSettings, read_config
from ml.dataset import read_panel
from ml.errors import AsxwError
from ml.folds import plan_folds
from ml.manifest import project_manifest
from ml.tuning import Past, best_of, inner_data, make_study_id, propose, run_study, run_trial
from ml.warehouse import open_warehouse

optuna = pytest.importorskip("optuna")

OVERLAY = {
    **SMALL,
    "classifier": {"trees_final": 4, "trees_fold": 4},
    "regressor": {"trees_final": 4, "trees_fold": 4},
    "folds": {"blocks": 2, "holdout": 42, "minimum_train_sessions": 150},
    "evaluation": {"replicates": 10},
    "tune": {
        "blocks": 2,
        "startup": 2,
        "space": {
            **dict.fromkeys(read_config().tune.space),
            "lightgbm.lambda_l2": {"low": 0.01, "high": 100, "log": True},
            "lightgbm.num_leaves": {"low": 2, "high": 16, "integer": True},
            "regressor.lightgbm.learning_rate": {"choices": [0.05, 0.1]},
        },
    },
}


def asxw(project, *arguments, config="small.yml"):
    command = ["--project-dir", str(project), arguments[0], "--config", str(project / config)]
    return CliRunner().invoke(main, [*command, *arguments[1:]])


def trials(project):
    with open_warehouse(project, read_only=True) as warehouse:
        return warehouse.read_arrow(
            "select * from ml.trials where kind = 'tune' order by started_at"
        ).to_pylist()


def load(project, config_file="small.yml"):
    config = read_config(project / config_file)
    manifest = project_manifest(project, project / "target" / "manifest.json")
    with open_warehouse(project) as warehouse:
        features = manifest.features(config.features)
        return read_panel(warehouse, manifest.panel, features, ("adv_20_median",)), config


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A study of five trials, stopped after three and continued."""
    project = make_project(tmp_path_factory.mktemp("tuned") / "p", make_market(40, 460), OVERLAY)
    first = asxw(project, "tune", "--trials", "3")
    assert first.exit_code == 0, first.output
    second = asxw(project, "tune", "--trials", "5", "--out", str(project / "best.yml"))
    assert second.exit_code == 0, second.output
    return project, first, second


def test_only_rows_before_the_first_test_session_are_seen(tuned):
    project, _, _ = tuned
    panel, config = load(project)
    outer = plan_folds(panel.session_idx, config.folds)
    data = inner_data(panel, config)
    assert data.panel.label_end_idx.max() < outer.folds[0].first_test - config.folds.embargo
    for row in trials(project):
        assert row["last_session"].isoformat() <= str(data.panel.trade_date.max())
        assert row["panel_checksum"] == data.panel.checksum != panel.checksum
    # whatever comes later may change as it likes: the study and its numbers stay the same
    later = panel.label_end_idx >= outer.folds[0].label_limit
    rng = np.random.default_rng(1)
    changed = replace(
        panel,
        returns=np.where(later, rng.normal(size=len(panel)), panel.returns),
        up=np.where(later, 1.0 - panel.up, panel.up),
        values=np.where(later[:, None], 0.0, panel.values),
    )
    again = inner_data(changed, config)
    assert make_study_id(again, config, panel.features, "close") == make_study_id(
        data, config, panel.features, "close"
    )
    np.testing.assert_array_equal(run_trial(again, config).roc_auc, run_trial(data, config).roc_auc)


def test_a_stopped_study_goes_on_and_ends_as_an_undisturbed_one(tuned):
    project, first, second = tuned
    assert "3 trials done" in second.stderr and "trial 4/5" in second.stderr
    rows = trials(project)
    assert [r["number"] for r in rows] == [0, 1, 2, 3, 4]
    assert {r["status"] for r in rows} == {"completed"}
    assert json.loads(rows[0]["choices_json"]) == {}
    panel, config = load(project)
    done = []

    class Memory:
        begin = staticmethod(lambda trial: None)
        complete = staticmethod(lambda trial, outcome: done.append((trial, outcome)))
        fail = staticmethod(lambda trial, error: pytest.fail(error))

    run_study(
        inner_data(panel, config),
        lambda choices: read_config(project / "small.yml", choices),
        "undisturbed", [], Memory,
        trials=5, minutes=None, label="close", git_commit=None, report=lambda line: None,
    )  # fmt: skip
    assert [json.loads(r["choices_json"]) for r in rows] == [
        json.loads(t.choices_json) for t, _ in done
    ]
    assert [r["objective"] for r in rows] == [o.objective for _, o in done]
    assert first.exit_code == 0


def test_the_best_parameters_can_be_trained_with(tuned):
    project, _, second = tuned
    best = max(trials(project), key=lambda r: r["objective"])
    written = yaml.safe_load((project / "best.yml").read_text())
    choices = json.loads(best["choices_json"])
    if choices:
        assert written["lightgbm"]["lambda_l2"] == choices["lightgbm.lambda_l2"]
    assert written["folds"] == OVERLAY["folds"]
    assert f"Of trial {best['number']}: Configurations tried so far: 5." in second.stdout
    assert f"is trial {best['number']}" in second.stdout and "best.yml" in second.stdout
    done = asxw(project, "train", config="best.yml")
    assert done.exit_code == 0, done.output
    with open_warehouse(project, read_only=True) as warehouse:
        rows = warehouse.read_rows(
            "select kind, configuration from ml.trials where status = 'completed' order by 1"
        )
        judged = warehouse.read_rows("select distinct n_trials from ml.overfitting")
    # the training repeats a configuration of the study: it is no sixth choice
    assert sorted(kind for kind, _ in rows) == ["train"] + 5 * ["tune"]
    assert len({configuration for _, configuration in rows}) == 5
    assert judged == [(5,)]


def test_a_failed_trial_is_noted_and_the_study_goes_on(tmp_path):
    overlay = {
        **OVERLAY,
        "tune": {
            **OVERLAY["tune"],
            "space": {
                **dict.fromkeys(read_config().tune.space),
                "lightgbm.num_leaves": {"choices": [-7]},
            },
        },
    }
    project = make_project(tmp_path / "p", make_market(40, 460), overlay)
    done = asxw(project, "tune", "--trials", "3")
    assert done.exit_code == 0, done.output
    assert [r["status"] for r in trials(project)] == ["completed", "failed", "failed"]
    assert "LightGBM refused" in trials(project)[1]["error"]
    assert "is trial 0" in done.stdout


def test_time_budget_and_too_few_sessions(tuned, tmp_path):
    project, _, _ = tuned
    done = asxw(project, "tune", "--trials", "50", "--minutes", "0")
    assert done.exit_code == 0 and "time is up: 5 of 50 trials" in done.stderr
    panel, config = load(project)
    short = replace(config, folds=replace(config.folds, minimum_train_sessions=21, blocks=4))
    with pytest.raises(AsxwError, match=r"minimum_train_sessions of at least 110"):
        inner_data(panel, short)


def settings(**space):
    return TuneSettings(20, 2, 21, 21, "rank_ic", 5, 7, space)


def test_the_sampler_learns_and_repeats_itself():
    tune = settings(x=Range(0.0, 1.0), n=Range(1, 9, integer=True))
    past: list[Past] = []
    for number in range(1, 26):
        choices = propose(tune, past, number)
        assert choices == propose(tune, past, number)
        assert 0 <= choices["x"] <= 1 and isinstance(choices["n"], int)
        past.append(Past(number, choices, None if number == 3 else -abs(choices["x"] - 0.8)))
    assert abs(np.median([p.choices["x"] for p in past[15:]]) - 0.8) < 0.15
    assert best_of(past).objective == max(p.objective for p in past if p.objective is not None)
    assert best_of([Past(0, {}, None)]) is None


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"objective": "luck"}, "tune.objective must be"),
        ({"space": {"lightgbm.lambda_l2": {"low": 0, "high": 1, "log": True}}}, "above 0 with log"),
        ({"space": {"lightgbm.lambda_l2": {"lowest": 0}}}, "wrong form"),
        ({"blocks": 1}, "tune.blocks must be at least 2"),
    ],
)
def test_wrong_settings_are_named(tmp_path, tune, message):
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"tune": tune}), encoding="utf-8")
    with pytest.raises(AsxwError, match=message):
        read_config(tmp_path / "c.yml")
    with pytest.raises(AsxwError, match=r"unknown key folds.block"):
        read_config(None, {"folds.block": 3})
