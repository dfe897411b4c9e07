"""The ledger of trials: what is begun is written down, whatever becomes of it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from panel_fixture import REPOSITORY, SMALL, make_market, make_project

from ml.cli import main
from ml.config import read_config
from ml.contract import read_contract
from ml.errors import AsxwError
from ml.ledger import (
    Outcome,
    SessionSeries,
    begin,
    complete,
    configuration_hash,
    fail,
    luck_line,
    new_trial,
)
from ml.overfitting import deflated_sharpe, expected_maximum, moments
from ml.warehouse import DuckDBWarehouse, open_warehouse

FASTEST = {
    **SMALL,
    "classifier": {"trees_final": 3, "trees_fold": 3},
    "regressor": {"trees_final": 3, "trees_fold": 20},
    "evaluation": {"replicates": 10},
}


def train(project, overlay, check=True):
    (project / "small.yml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    command = ["--project-dir", str(project), "train", "--config", str(project / "small.yml")]
    done = CliRunner().invoke(main, command)
    assert not check or done.exit_code == 0, done.output
    return done


def rows(project, table, order="1"):
    with open_warehouse(project, read_only=True) as warehouse:
        return warehouse.read_arrow(f"select * from ml.{table} order by {order}").to_pylist()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """Two configurations, one of them trained twice, then one that LightGBM refuses; with the
    folder, what was judged when there was one trial."""
    folder = make_project(tmp_path_factory.mktemp("ledger") / "p", make_market(60, 420))
    train(folder, FASTEST)
    alone = rows(folder, "overfitting")
    train(folder, FASTEST)
    # the spread is the regressor's
    regressor = {**FASTEST["regressor"], "lightgbm": {"num_leaves": 4}}
    done = train(folder, {**FASTEST, "regressor": regressor})
    assert "Configurations tried so far: 2." in done.stdout
    assert "backtest overfitting among 2 trials" in done.stdout
    refused = {**FASTEST, "lightgbm": {"num_leaves": -3}}
    done = train(folder, refused, check=False)
    assert done.exit_code == 1 and "LightGBM refused" in done.stderr
    return folder, alone


@pytest.fixture(scope="module")
def project(ledger):
    return ledger[0]


def test_every_attempt_is_a_row_and_a_failure_says_why(project):
    trials = rows(project, "trials", "started_at")
    assert [t["status"] for t in trials] == ["completed"] * 3 + ["failed"]
    assert [t["error"] is None for t in trials] == [True, True, True, False]
    assert "LightGBM refused" in trials[3]["error"] and trials[3]["run_id"] is None
    assert len({t["trial_id"] for t in trials}) == 4
    assert trials[0]["run_id"] == trials[1]["run_id"] != trials[2]["run_id"]
    assert trials[0]["configuration"] == trials[1]["configuration"]
    assert len({t["configuration"] for t in trials}) == 3
    assert all(t["finished_at"] >= t["started_at"] for t in trials)
    runs = {r["run_id"] for r in rows(project, "runs")}
    assert runs == {t["run_id"] for t in trials[:3]}


def test_the_series_is_that_of_the_run(project):
    trial = rows(project, "trials", "started_at")[2]
    series = [s for s in rows(project, "trial_sessions") if s["trial_id"] == trial["trial_id"]]
    wanted: dict = {}
    for row in rows(project, "session_metrics"):
        chosen = (trial["run_id"], "lightgbm", "all")
        if (row["run_id"], row["predictor"], row["segment"]) == chosen:
            wanted.setdefault(row["session_idx"], {})[row["metric"]] = row["value"]
    assert len(series) == len(wanted) == trial["n_sessions"]
    assert sum(row["spread"] is not None for row in series) > 100
    for row in series:
        expected = wanted[row["session_idx"]]
        assert row["spread"] == expected.get("decile_spread_net")
        assert row["roc_auc"] == expected["roc_auc"]
    metric = next(
        m["value"]
        for m in rows(project, "metrics")
        if (m["run_id"], m["predictor"], m["fold"], m["segment"], m["metric"])
        == (trial["run_id"], "lightgbm", 0, "all", "roc_auc_session")
    )
    assert trial["roc_auc_session"] == pytest.approx(metric, abs=1e-12)


def test_the_bar_counts_configurations_failed_ones_too(project):
    found = {r["trial_id"]: r for r in rows(project, "overfitting")}
    trials = rows(project, "trials", "started_at")
    assert set(found) == {t["trial_id"] for t in trials[:3]}
    spreads = {
        t["trial_id"]: np.array(
            [
                s["spread"]
                for s in rows(project, "trial_sessions", "trade_date")
                if s["trial_id"] == t["trial_id"] and s["spread"] is not None
            ]
        )
        for t in trials[:3]
    }
    ratios = [moments(spreads[t["trial_id"]]).sharpe for t in trials[1:3]]
    deviation = np.std(ratios, ddof=1)
    for trial_id, row in found.items():
        assert row["n_trials"] == 3
        assert row["sharpe_expected_maximum"] == pytest.approx(expected_maximum(3, deviation))
        periods = len(spreads[trial_id]) / 21
        own = deflated_sharpe(moments(spreads[trial_id]), periods, row["sharpe_expected_maximum"])
        assert row["deflated_sharpe"] == pytest.approx(own) and 0 < own < 1
        # the same window: both configurations are compared, the repeated one once
        assert row["pbo_trials"] == 2 and 0 <= row["pbo"] <= 1


def test_one_trial_alone_has_no_bar(ledger):
    (row,) = ledger[1]
    assert row["n_trials"] == 1 and row["sharpe_expected_maximum"] == 0.0
    assert row["pbo"] is None and not math.isnan(row["deflated_sharpe"])


def test_what_cannot_be_read_is_a_failure_and_a_killed_trial_stays_started(tmp_path):
    folder = make_project(tmp_path / "p", make_market(10, 420))
    (folder / "small.yml").write_text(yaml.safe_dump(FASTEST), encoding="utf-8")
    command = [sys.executable, "-c", "from ml.cli import main; main()"]
    command += ["--project-dir", str(folder), "train", "--config", str(folder / "small.yml")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr:
        if line.startswith("fold "):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL
    with open_warehouse(folder) as warehouse:
        warehouse.execute("alter table intermediate.int_training_panel drop column signal")
    assert train(folder, FASTEST, check=False).exit_code == 1
    trials = rows(folder, "trials", "started_at")
    assert [t["status"] for t in trials] == ["started", "failed"]
    assert trials[0]["finished_at"] is None and "lacks signal" in trials[1]["error"]
    assert rows(folder, "overfitting") == []


def test_what_is_said_of_luck():
    row = {"n_trials": 3, "sharpe": 0.5, "sharpe_expected_maximum": 0.25, "deflated_sharpe": 0.9,
           "pbo": None}  # fmt: skip
    assert "probability 0.90." in luck_line(row) and "backtest" not in luck_line(row)
    assert luck_line(row | {"deflated_sharpe": None}).endswith("show 0.25.")
    assert "0.40" in luck_line(row | {"pbo": 0.4, "pbo_trials": 2})
    assert luck_line(None).startswith("Too few")


def test_a_configuration_is_parameters_features_and_label():
    config = read_config()
    first = configuration_hash(config, ["a", "b"], "close")
    assert configuration_hash(config, ["b", "a"], "close") == first
    assert configuration_hash(config, ["a"], "close") != first
    assert configuration_hash(config, ["a", "b"], "adj_close") != first


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"permutation_rows": 0}, False),
        ({"replicates": 9, "mean_block": 63, "seed": 1, "confidence": 0.9}, False),
        ({"bins": 100, "calibration_bins": 5, "segments": {"adv_100k": 1}}, False),
        ({"linear_penalty": 1.0, "baselines": {"trend": ["trend_200", 1]}}, False),
        # the sessions and the costs a trial is judged by can be chosen until it looks good
        ({"minimum_rows": 30}, True),
        ({"costs": {0: 10}}, True),
    ],
)
def test_what_only_adds_to_a_report_is_no_further_trial(tmp_path, change, counts):
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"evaluation": change}), encoding="utf-8")
    plain, changed = read_config(), read_config(tmp_path / "c.yml")
    assert plain.identity() != changed.identity()
    hashes = {configuration_hash(config, ["a"], "close") for config in (plain, changed)}
    assert len(hashes) == 1 + counts


def test_a_parameter_that_changes_nothing_lowers_no_bar(tmp_path):
    contract = read_contract(REPOSITORY, "ml")
    rng = np.random.default_rng(5)
    values = rng.normal(0.01, 0.05, size=(3, 180))
    series = SessionSeries(np.datetime64("2024-01-01") + np.arange(180), np.arange(180), *values)
    judged = []
    with DuckDBWarehouse(tmp_path / "w.duckdb") as warehouse:
        warehouse.create_tables("ml", contract)
        for number in range(2):
            trial = new_trial("train", read_config(), ["a"], label="close", git_commit=None)
            trial = replace(trial, trial_id=f"t{number}", configuration=f"c{number}")
            with warehouse.transaction():
                judged.append(complete(warehouse, "ml", contract, trial, Outcome(series, "p")))
    alone, twice = judged
    assert (alone["n_trials"], twice["n_trials"]) == (1, 2)
    deviation = pytest.approx((21 / 180) ** 0.5)
    assert twice["sharpe_deviation"] == alone["sharpe_deviation"] == deviation
    assert twice["sharpe_expected_maximum"] > 0
    assert twice["pbo"] is None and twice["pbo_trials"] is None


def test_a_run_and_its_place_in_the_ledger_are_written_together(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "p", make_market(10, 420))

    def stopped(*_):
        raise AsxwError("stopped here")

    monkeypatch.setattr("ml.commands.complete", stopped)
    done = train(folder, FASTEST, check=False)
    assert done.exit_code == 1 and "stopped here" in done.stderr
    assert rows(folder, "runs") == rows(folder, "metrics") == []
    assert [t["status"] for t in rows(folder, "trials")] == ["failed"]
    monkeypatch.undo()
    train(folder, FASTEST)
    train(folder, {**FASTEST, "evaluation": {"replicates": 10, "permutation_rows": 0}})
    ended = [(t["run_id"] is None, t["status"]) for t in rows(folder, "trials", "started_at")]
    assert ended == [(True, "failed"), (False, "completed"), (False, "completed")]
    assert len(rows(folder, "runs")) == 2
    assert {(r["n_trials"], r["pbo"]) for r in rows(folder, "overfitting")} <= {(1, None)}


def test_tables_follow_the_contract(project):
    contract = read_contract(REPOSITORY, "ml")
    with open_warehouse(project) as warehouse:
        for name in ("trials", "trial_sessions", "overfitting"):
            table = warehouse.read_arrow(f"select * from ml.{name}")
            assert table.schema.equals(contract[name].arrow_schema) and table.num_rows


def judge_three_trials(warehouse):
    """Two trials that complete and one that fails, and what the ledger then says of them."""
    contract = read_contract(REPOSITORY, "ml")
    names = ("trials", "trial_sessions", "overfitting")
    warehouse.create_tables("ml", {name: contract[name] for name in names})
    rng = np.random.default_rng(8)
    first = np.datetime64("2024-01-01")
    config = read_config()
    for number in range(3):
        trial = replace(
            new_trial("tune", config, ["a"], label="close", git_commit=None, study_id="s",
                      number=number, choices={"x": number}),
            trial_id=f"t{number}", configuration=f"c{number}",
        )  # fmt: skip
        begin(warehouse, "ml", contract, trial)
        if number == 1:
            fail(warehouse, "ml", contract, trial, "it can't")
            continue
        values = rng.normal(0.01, 0.05, size=(3, 180))
        values[2, :5] = math.nan
        series = SessionSeries(first + np.arange(180), np.arange(180), *values)
        with warehouse.transaction():
            complete(warehouse, "ml", contract, trial, Outcome(series, "p", objective=0.5))
    judged = warehouse.read_arrow("select * from ml.overfitting order by trial_id")
    ended = warehouse.read_rows("select trial_id, status, error, n_sessions, first_session, "
                                "study_id, number from ml.trials order by 1")  # fmt: skip
    return judged.drop_columns(["computed_at"]).to_pylist(), ended


@pytest.mark.slow
def test_both_engines_keep_the_same_ledger(database, tmp_path):
    with database.warehouse() as warehouse:
        judged, ended = judge_three_trials(warehouse)
    with DuckDBWarehouse(tmp_path / "w.duckdb") as warehouse:
        assert judge_three_trials(warehouse) == (judged, ended)
    assert [row["n_trials"] for row in judged] == [3, 3] and judged[0]["n_sessions"] == 175
    assert judged[0]["pbo_blocks"] == 4 and judged[0]["pbo_trials"] == 2
    assert ended[1][:3] == ("t1", "failed", "it can't")


@pytest.mark.slow
def test_marts_show_trials_and_the_newest_of_each_run(built_market):
    trials = built_market.frame("select * from marts.fct_trials")
    judged = built_market.frame("select * from marts.fct_overfitting")
    runs = built_market.frame("select run_id from ml.runs")
    assert trials.status.tolist() == ["completed"] and trials.is_first_attempt.all()
    assert judged.is_newest.all() and judged.run_id.tolist() == runs.run_id.tolist()
    assert judged.verdict[0] in ("more than luck", "may be luck")
    assert judged.sharpe_year[0] == pytest.approx(judged.sharpe[0] * math.sqrt(252 / 21))
