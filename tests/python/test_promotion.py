"""Gates, promotion, the sealed holdout, and which run scores."""

from __future__ import annotations

import csv
import math
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from panel_fixture import SIGNALS, make_market, make_project
from sklearn.metrics import roc_auc_score

from ml.cli import main
from ml.config import read_config
from ml.dataset import read_panel
from ml.errors import AsxwError
from ml.evaluation import Metric
from ml.gates import Evidence, judge, read_gates, signal_class
from ml.manifest import project_manifest
from ml.registry import champion, read_promotions, score_holdout
from ml.report import Source, render
from ml.scoring import find_run
from ml.warehouse import open_warehouse

OVERLAY = {
    "classifier": {"trees_final": 8, "trees_fold": 6},
    "regressor": {"trees_final": 8, "trees_fold": 6},
    "lightgbm": {"num_leaves": 8},
    "folds": {"blocks": 3, "holdout": 63},
    "evaluation": {"replicates": 20},
    "threads": 1,
}


def asxw(project, *arguments):
    return CliRunner().invoke(main, ["--project-dir", str(project), *arguments])


def query(project, sql):
    with open_warehouse(project, read_only=True) as warehouse:
        return warehouse.read_rows(sql)


def execute(project, sql):
    with open_warehouse(project) as warehouse:
        warehouse.execute(sql)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = make_project(tmp_path_factory.mktemp("promoted") / "p", make_market(40, 420), OVERLAY)
    done = asxw(folder, "train", "--config", str(folder / "small.yml"))
    assert done.exit_code == 0, done.output
    assert "Gates:" in done.stdout and "FAILED" in done.stdout
    return folder


@pytest.fixture
def project(trained, tmp_path):
    """A copy of the project with a trained run, in a git repository of its own."""
    folder = tmp_path / "p"
    shutil.copytree(trained, folder)
    git(folder, "init", "-q")
    execute(folder, "update ml.gates set passed = true where level = 'alarm'")
    return folder


def git(folder, *arguments):
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def run_of(project):
    return query(project, "select run_id from ml.runs")[0][0]


def promote(project, *arguments, run_id=None):
    config = ("--config", str(project / "small.yml"))
    command = ("promote", run_id or run_of(project), "--reason", "best so far", "--by", "ann")
    return asxw(project, *command, *(arguments or config))


def test_gates_are_written_and_honest(trained):
    rows = {r[0]: r[1:] for r in query(trained, "select gate, level, value, passed from ml.gates")}
    assert len(rows) == len(read_gates())
    # a small market: the gate of samples fails and says so
    n_rows = query(trained, "select n_rows from ml.runs")[0][0]
    assert rows["samples"] == ("minimum", float(n_rows), False)
    value = query(
        trained,
        "select value from ml.metrics where predictor = 'lightgbm' and fold = 0 "
        "and segment = 'all' and metric = 'roc_auc_pooled'",
    )[0][0]
    assert rows["auc_minimum"] == ("minimum", value, value >= 0.62)
    assert rows["auc_too_good"] == ("alarm", value, value < 0.64)
    top = query(
        trained,
        "select feature from ml.importance where fold = 0 and head = 'classifier' and rank <= 10",
    )
    fundamental = {"signal", "noise", "always_null"} & {f for (f,) in top}
    assert rows["fundamental_in_top_10"][1] == len(fundamental)


def evidence(**changes):
    def metric(predictor, name, value, low, segment="all", fold=0):
        return Metric(predictor, fold, segment, name, value, low, value + 1, 100)

    given = {
        "metrics": [
            metric("lightgbm", "roc_auc_pooled", 0.63, 0.61),
            metric("lightgbm", "auc_gap", 0.02, 0.0),
            metric("weak", "roc_auc_session", 0.51, 0.5),
            metric("strong", "roc_auc_session", 0.56, 0.5),
            metric("lightgbm - weak", "roc_auc_session", 0.05, 0.03),
            metric("lightgbm - strong", "roc_auc_session", 0.01, -0.01),
            metric("lightgbm", "rmse", 0.30, 0.2, fold=1),
            metric("lightgbm", "rmse", 0.40, 0.2, fold=2),
        ],
        "samples": 600_000,
        "importance": [
            {"feature": "pe", "fold": 0, "head": "classifier", "rank": 10},
            {"feature": "pb", "fold": 0, "head": "classifier", "rank": 11},
            {"feature": "roe", "fold": 0, "head": "regressor", "rank": 1},
        ],
        "families": {"pe": "fundamental", "pb": "fundamental", "roe": "fundamental"},
        "signals": Counter({"HOLD": 80, "BUY": 20}),
    }
    return Evidence(**given | changes)


def test_each_gate_by_hand():
    found = {r.gate.name: r for r in judge(read_gates(), evidence())}
    passed = {name for name, r in found.items() if r.passed}
    assert passed == {
        "auc_minimum", "fundamental_in_top_10", "no_signal_dominates", "auc_too_good",
        "ic_too_good_liquid",
    }  # fmt: skip
    # the strongest opponent counts, and the low end of the interval
    assert found["beats_best_baseline"].value == 0.01
    assert found["beats_best_baseline"].note.startswith("strong")
    assert found["rmse_stable"].value == pytest.approx(math.sqrt(0.005))
    assert found["samples"].value == 600_000  # more than, not at least
    assert found["little_date_memory"].value == 0.02
    high = Metric("lightgbm", 0, "all", "roc_auc_pooled", 0.64, 0.6, 0.7, 100)
    loud = {r.gate.name: r for r in judge(read_gates(), evidence(metrics=[high]))}
    assert not loud["auc_too_good"].passed and loud["auc_target"].passed


def test_a_gate_that_makes_no_sense_is_refused(tmp_path):
    for entry in ({"gate": "a", "level": "minimum", "measure": "metric"},
                  {"gate": "a", "level": "low", "measure": "metric", "below": 1},
                  {"gate": "a", "level": "minimum", "measure": "luck", "below": 1}):  # fmt: skip
        (tmp_path / "g.yml").write_text(yaml.safe_dump({"gates": [entry]}))
        with pytest.raises(AsxwError, match="gate a needs one condition"):
            read_gates(tmp_path / "g.yml")


def test_signals_are_those_of_the_macro():
    probability = np.array([0.60, 0.53, 0.52, 0.42, 0.36, 0.7, 0.3, 0.7])
    expected = np.array([0.1, 0.1, 0.1, -0.1, -0.1, -0.1, 0.1, 0.0])
    assert signal_class(probability, expected, SIGNALS).tolist() == [
        "STRONG_BUY", "BUY", "HOLD", "SELL", "STRONG_SELL", "HOLD", "HOLD", "HOLD",
    ]  # fmt: skip


def test_promotion_opens_the_holdout_once_and_scores_with_the_champion(project):
    done = promote(project)
    assert done.exit_code == 0, done.output
    assert "opening the sealed holdout" in done.stderr and "holdout" in done.stdout
    run_id = run_of(project)
    (line,) = read_promotions(project)
    assert (line.run_id, line.promoted_by, line.reason) == (run_id, "ann", "best so far")
    opening = query(project, "select run_id, opened_by, first_session from ml.holdout_openings")
    sealed = query(project, "select holdout_first_session from ml.runs")[0][0]
    assert opening == [(run_id, "ann", sealed)]
    assert query(project, "select count(*) from ml.metrics where fold = -1")[0][0] > 20

    again = promote(project)
    assert again.exit_code == 1 and "is in seeds" in again.stderr
    # the line is taken back and the run promoted anew: the holdout stays opened once
    (project / "seeds" / "model_promotions.csv").unlink()
    once_more = promote(project)
    assert once_more.exit_code == 0 and "not again" in once_more.stderr
    assert query(project, "select count(*) from ml.holdout_openings") == [(1,)]

    scored = asxw(project, "score")
    assert scored.exit_code == 0 and f"with the champion {run_id}" in scored.stdout

    # the same run trained again is the same run, and what its holdout said stays said
    told = query(project, "select * from ml.metrics where fold = -1 order by all")
    done = asxw(project, "train", "--config", str(project / "small.yml"))
    assert done.exit_code == 0 and run_of(project) == run_id
    assert query(project, "select count(*) from ml.runs") == [(1,)]
    assert query(project, "select * from ml.metrics where fold = -1 order by all") == told


def test_a_champion_of_another_warehouse_gives_way_to_the_newest_run(project):
    seed = project / "seeds" / "model_promotions.csv"
    seed.parent.mkdir(exist_ok=True)
    seed.write_text(
        "run_id,model_name,promoted_at,promoted_by,reason\n"
        "direction_21-elsewhere,direction_21,2026-01-01 00:00:00,ann,theirs\n"
    )
    assert champion(project, "direction_21").run_id == "direction_21-elsewhere"
    scored = asxw(project, "score")
    assert scored.exit_code == 0, scored.output
    assert "was not trained in this warehouse" in scored.stderr
    assert query(project, "select distinct run_id from ml.predictions") == [(run_of(project),)]


def test_the_run_is_of_the_model_and_only_the_champion_is_called_so(project):
    run_id, other = run_of(project), "other_model-20230101-0123456789"
    # a newer run of another model, with a copy of the files
    columns = query(
        project,
        "select string_agg(column_name, ', ' order by ordinal_position) "
        "from information_schema.columns where table_schema = 'ml' and table_name = 'runs' "
        "and column_name not in ('run_id', 'model_name', 'created_at')",
    )[0][0]
    execute(
        project,
        f"insert into ml.runs (run_id, model_name, created_at, {columns}) "
        f"select '{other}', 'other_model', created_at + interval 1 hour, {columns} from ml.runs",
    )
    scored = asxw(project, "score")
    assert scored.exit_code == 0, scored.output
    assert f"with run {run_id}" in scored.stdout
    assert query(project, "select distinct run_id from ml.predictions") == [(run_id,)]
    (project / "third.yml").write_text("model_name: third\n")
    missing = asxw(project, "score", "--config", str(project / "third.yml"))
    assert missing.exit_code == 1 and "No run of the model third" in missing.stderr
    assert other in missing.stderr and "--run" in missing.stderr

    seed = project / "seeds" / "model_promotions.csv"
    seed.parent.mkdir(exist_ok=True)
    seed.write_text(
        "run_id,model_name,promoted_at,promoted_by,reason\n"
        f"{run_id},direction_21,2026-01-01 00:00:00,ann,ours\n"
    )
    assert f"with the champion {run_id}" in asxw(project, "score").stdout
    again = f"{run_id}b"
    execute(
        project,
        f"insert into ml.runs (run_id, model_name, created_at, {columns}) "
        f"select '{again}', 'direction_21', created_at + interval 2 hours, {columns} "
        f"from ml.runs where run_id = '{run_id}'",
    )
    assert f"with the champion {run_id}." in asxw(project, "score").stdout
    with open_warehouse(project, read_only=True) as warehouse:
        named = find_run(warehouse, "ml", again, "direction_21", champion(project, "direction_21"))
    assert named == ("direction_21", again)


def test_another_run_than_the_champion_is_not_called_so(project):
    seed = project / "seeds" / "model_promotions.csv"
    seed.parent.mkdir(exist_ok=True)
    seed.write_text(
        "run_id,model_name,promoted_at,promoted_by,reason\n"
        "direction_21-elsewhere,direction_21,2026-01-01 00:00:00,ann,theirs\n"
    )
    for arguments in ((), ("--run", run_of(project))):
        scored = asxw(project, "score", *arguments)
        assert scored.exit_code == 0 and f"with run {run_of(project)}" in scored.stdout


def test_holdout_numbers_come_from_a_model_that_has_not_seen_it(project):
    config = read_config(project / "small.yml")
    manifest = project_manifest(project, project / "target" / "manifest.json")
    with open_warehouse(project) as warehouse:
        panel = read_panel(
            warehouse, manifest.panel, manifest.features(config.features), ("adv_20_median",)
        )
    result, metrics = score_holdout(panel, config)
    first = panel.session_idx[result.test].min()
    assert len(np.unique(panel.session_idx[result.test])) == 63
    assert panel.label_end_idx[result.train].max() < first - config.folds.embargo
    auc = []
    for session in np.unique(panel.session_idx[result.test]):
        inside = panel.session_idx[result.test] == session
        up = panel.up[result.test][inside]
        if inside.sum() >= 20 and 0 < up.mean() < 1:
            auc.append(roc_auc_score(up, result.probability[inside]))
    (found,) = [
        m for m in metrics
        if (m.predictor, m.segment, m.name) == ("lightgbm", "all", "roc_auc_session")
    ]  # fmt: skip
    assert found.fold == -1 and found.value == pytest.approx(np.mean(auc), abs=1e-12)


def test_an_alarm_needs_a_committed_review(project):
    run_id = run_of(project)
    execute(project, "update ml.gates set passed = false where gate = 'auc_too_good'")
    review = project / "reviews" / f"{run_id}.md"
    assert "auc_too_good" in promote(project).stderr
    review.parent.mkdir()
    review.write_text("who: ann\nwhen:\n")
    assert "has no line that begins with when: or checked:" in promote(project).stderr
    review.write_text("who: ann\nwhen: 2026-11-25\nchecked: folds, labels, features\n")
    assert "is not committed" in promote(project).stderr
    git(project, "add", "reviews")
    git(project, "commit", "-qm", "review")
    review.write_text(review.read_text() + "more\n")
    assert "is not committed" in promote(project).stderr
    git(project, "commit", "-qam", "more")
    assert champion(project, "direction_21") is None
    assert query(project, "select count(*) from ml.holdout_openings") == [(0,)]
    assert promote(project).exit_code == 0
    assert champion(project, "direction_21").run_id == run_id


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("delete from ml.predictions_oof", "is not whole: no rows in predictions_oof"),
        ("delete from ml.folds where fold = 2", "is not whole: 2 of 3 folds"),
        ("delete from ml.gates", "is not whole: no rows in gates"),
        ("delete from ml.session_metrics", "is not whole: no rows in session_metrics"),
        ("update intermediate.int_training_panel set vol_60 = 0 where session_idx = 99", "stale"),
    ],
)
def test_half_written_and_stale_runs_are_refused(project, damage, message):
    execute(project, damage)
    done = promote(project)
    assert done.exit_code == 1 and message in done.stderr
    assert champion(project, "direction_21") is None
    assert query(project, "select count(*) from ml.holdout_openings") == [(0,)]


def test_a_market_too_small_to_be_judged_by_session_is_told_so(tmp_path):
    folder = make_project(tmp_path / "p", make_market(12, 420), OVERLAY)
    done = asxw(folder, "train", "--config", str(folder / "small.yml"))
    assert done.exit_code == 0, done.output
    assert "warning: No session has 20 rows (evaluation.minimum_rows)" in done.stdout
    execute(folder, "update ml.gates set passed = true where level = 'alarm'")
    reason = "has no session of 20 out-of-fold rows"
    refused = promote(folder)
    assert refused.exit_code == 1 and reason in refused.stderr and "whole" not in refused.stderr
    with open_warehouse(folder, read_only=True) as warehouse:
        source = Source(warehouse, "ml", "marts", run_of(folder), {})
        with pytest.raises(AsxwError, match=reason):
            render(source, "")

    # what the message says helps
    smaller = {**OVERLAY, "evaluation": {**OVERLAY["evaluation"], "minimum_rows": 8}}
    (folder / "small.yml").write_text(yaml.safe_dump(smaller))
    execute(folder, "delete from ml.runs")
    assert asxw(folder, "train", "--config", str(folder / "small.yml")).exit_code == 0
    execute(folder, "update ml.gates set passed = true where level = 'alarm'")
    assert promote(folder).exit_code == 0


def test_altered_files_other_parameters_and_unknown_runs_are_refused(project):
    run_id = run_of(project)
    assert "There is no run nonsense" in promote(project, run_id="nonsense").stderr
    assert "other parameters" in promote(project, "--by", "bob").stderr
    model = project / "artifacts" / "direction_21" / run_id / "classifier.txt"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(bytes(content))
    assert "does not match its checksum" in promote(project).stderr
    assert champion(project, "direction_21") is None


def test_the_latest_line_of_a_model_is_its_champion(tmp_path):
    (tmp_path / "seeds").mkdir()
    path = tmp_path / "seeds" / "model_promotions.csv"
    rows = [("b", "m", "2026-02-01 00:00:00"), ("a", "m", "2026-01-01 00:00:00"),
            ("c", "other", "2026-03-01 00:00:00")]  # fmt: skip
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["run_id", "model_name", "promoted_at", "promoted_by", "reason"])
        writer.writerows([*row, "ann", "x, y"] for row in rows)
    assert champion(tmp_path, "m").run_id == "b" and champion(tmp_path, "none") is None
    path.write_text("run_id,when\n")
    with pytest.raises(AsxwError, match="must have the columns"):
        champion(tmp_path, "m")


def test_backfill_scores_every_session_once(project):
    # forecasts begin after what the labels have seen, so the run is made to have seen less
    latest = query(project, "select max(trade_date) from marts.fct_features_daily")[0][0]
    before = asxw(project, "score", "--backfill", "2022-01-01", "2022-02-01")
    assert before.exit_code == 1 and "would not be forecasts" in before.stderr
    assert query(project, "select count(*) from ml.predictions") == [(0,)]
    first = query(
        project,
        "select min(trade_date) from marts.fct_features_daily, ml.runs "
        "where trade_date > trained_through",
    )[0][0]
    for _ in range(2):
        done = asxw(project, "score", "--backfill", str(first), str(latest))
        assert done.exit_code == 0, done.output
    rows = query(project, "select count(*), count(distinct (symbol, trade_date)), "
                 "count(distinct trade_date) from ml.predictions")[0]  # fmt: skip
    sessions = query(
        project,
        "select count(distinct trade_date) from marts.fct_features_daily, ml.runs "
        "where trade_date > trained_through",
    )[0][0]
    assert rows[0] == rows[1] > 0 and rows[2] == sessions
    both = asxw(project, "score", "--as-of", str(latest), "--backfill", str(first), str(latest))
    assert both.exit_code == 1 and "give one of them" in both.stderr


def test_a_missing_threshold_is_named_before_anything_is_trained(tmp_path):
    folder = make_project(tmp_path / "p", make_market(8, 200), OVERLAY)
    path = folder / "dbt_project.yml"
    path.write_text(path.read_text().replace("signal_buy_return", "signal_buy_retrun"))
    done = asxw(folder, "train", "--config", str(folder / "small.yml"))
    assert done.exit_code == 1
    assert "signal_buy_return" in done.stderr and "rows" not in done.stderr
