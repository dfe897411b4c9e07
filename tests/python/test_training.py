"""Training on a small warehouse, from the command to the tables."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner
from panel_fixture import REPOSITORY, SMALL, make_market, make_project, write_market

from ml.artifacts import (
    CONTRACT_VERSION,
    Feature,
    check_features,
    load_artifact,
    manifest_checksum,
    run_folder,
)
from ml.cli import main
from ml.config import check_shared, read_config
from ml.contract import read_contract
from ml.dataset import latest_session, read_panel
from ml.errors import AsxwError
from ml.evaluation import corrected_probability
from ml.manifest import project_manifest
from ml.training import fit_heads, make_run_id, model_text, train
from ml.warehouse import open_warehouse, project_vars

RESULTS = (
    "runs", "folds", "metrics", "session_metrics", "importance", "permutation_importance",
    "predictions_oof",
)  # fmt: skip


def asxw(project, *arguments):
    return CliRunner().invoke(main, ["--project-dir", str(project), *arguments])


def train_small(project, *arguments):
    done = asxw(project, "train", "--config", str(project / "small.yml"), *arguments)
    assert done.exit_code == 0, done.output
    return done


def query(project, sql):
    with open_warehouse(project, read_only=True) as warehouse:
        return warehouse.read_rows(sql)


def results(project):
    """Every result row but for the time of writing, in order."""
    out = {}
    with open_warehouse(project, read_only=True) as warehouse:
        for name in RESULTS:
            table = warehouse.read_arrow(f"select * from ml.{name}")
            if name == "runs":
                table = table.drop_columns(["created_at"])
            keys = [(c, "ascending") for c in table.column_names if c != "value"]
            out[name] = table.sort_by(keys)
    return out


def load(project, overlay=None):
    """Panel, parameters and latest session as the command reads them."""
    config = read_config(project / "small.yml" if overlay is None else overlay)
    manifest = project_manifest(project, project / "target" / "manifest.json")
    with open_warehouse(project) as warehouse:
        latest = latest_session(warehouse, manifest.features_daily)
        features = manifest.features(config.features)
        panel = read_panel(warehouse, manifest.panel, features, ("adv_20_median",))
    return panel, config, latest


def run(panel, config, latest):
    return train(
        panel, config, latest=latest, label="close", git_commit=None, report=lambda line: None
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("trained") / "p", make_market())
    return project, train_small(project)


def test_output_names_folds_intervals_artifacts_and_warnings(trained):
    project, done = trained
    run_id = query(project, "select run_id from ml.runs")[0][0]
    assert "AUC session" in done.stdout and "All out-of-fold rows" in done.stdout
    assert "lightgbm - neg_vol_60" in done.stdout
    assert "warning: Left out of the final models" in done.stdout
    assert str(run_folder(project / "artifacts", "direction_21", run_id)) in done.stdout
    assert done.stderr.count("training rows") == 4 and "s left" in done.stderr


def test_tables_follow_the_contract(trained):
    project, _ = trained
    contract = read_contract(REPOSITORY, "ml")
    with open_warehouse(project) as warehouse:
        for name in RESULTS:
            table = warehouse.read_arrow(f"select * from ml.{name}")
            assert table.schema.names == contract[name].arrow_schema.names
            assert table.num_rows > 0
            keys = ", ".join(contract[name].key)
            doubled = f"select {keys} from ml.{name} group by all having count(*) > 1"
            assert warehouse.read_rows(doubled) == []
            for key in contract[name].key:
                assert table.column(key).null_count == 0


def test_run_row_describes_the_run(trained):
    project, _ = trained
    with open_warehouse(project, read_only=True) as warehouse:
        row = warehouse.read_arrow("select * from ml.runs").to_pylist()[0]
    panel, _, latest = load(project)
    final = panel.label_end_idx < latest[0]
    assert row["n_rows"] == final.sum() and row["n_folds"] == 4
    assert row["base_rate"] == pytest.approx(panel.up[final].mean())
    assert row["trained_through"] < latest[1]
    assert row["trained_through"].isoformat() in row["run_id"].replace(
        f"{row['trained_through']:%Y%m%d}", row["trained_through"].isoformat()
    )
    assert row["panel_checksum"] == panel.checksum and row["label"] == "close"
    features = json.loads(row["features_json"])
    assert "signal" in features and row["n_features"] == len(features)
    assert not {"always_null", "rarely_known", "rba_cash_rate"} & set(features)
    assert json.loads(row["parameters_json"])["folds"]["embargo"] == 5
    assert "lightgbm" in json.loads(row["versions_json"])


def test_purge_and_holdout_hold_in_the_written_folds(trained):
    project, _ = trained
    touching = query(
        project,
        "select * from ml.folds as train inner join ml.folds as test using (run_id, fold) "
        "where train.role = 'train' and test.role = 'test' "
        "and train.last_label_end_idx >= test.first_session_idx - 5",
    )
    assert touching == []
    in_holdout = query(
        project,
        "select * from ml.predictions_oof inner join ml.runs using (run_id) "
        "where predictions_oof.trade_date >= runs.holdout_first_session",
    )
    assert in_holdout == []
    sessions = query(project, "select count(distinct session_idx) from "
                     "intermediate.int_training_panel, ml.runs "
                     "where trade_date >= holdout_first_session")  # fmt: skip
    assert sessions == [(63,)]


def test_every_prediction_is_newer_than_its_training_prices(trained):
    project, _ = trained
    assert query(
        project, "select count(*) from ml.predictions_oof where trained_through >= trade_date"
    ) == [(0,)]
    ranges = query(project, "select min(probability_up), max(probability_up) "
                   "from ml.predictions_oof")[0]  # fmt: skip
    assert 0 < ranges[0] < ranges[1] < 1


def test_the_planted_signal_is_found(trained):
    project, _ = trained
    top = query(
        project,
        "select feature from ml.importance where fold = 0 and head = 'regressor' order by rank",
    )
    assert "signal" in [f for (f,) in top[:3]]
    shares = query(project, "select sum(gain_share) from ml.importance group by run_id, head, fold")
    assert all(share == pytest.approx(1.0) for (share,) in shares)
    value, low = query(
        project,
        "select value, ci_low from ml.metrics where predictor = 'lightgbm' and fold = 0 "
        "and segment = 'all' and metric = 'roc_auc_session'",
    )[0]
    assert value > 0.53 and low > 0.5


def test_training_again_gives_the_same_bytes_and_no_second_run(trained):
    project, _ = trained
    before = results(project)
    (folder,) = (project / "artifacts" / "direction_21").iterdir()
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    train_small(project)
    assert results(project) == before
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == files
    assert query(project, "select count(*) from ml.runs") == [(1,)]


def test_the_number_of_threads_changes_nothing(trained):
    project, _ = trained
    panel, config, _ = load(project)
    rows = np.ones(len(panel), dtype=bool)
    models, scores = [], []
    for threads in (1, 2):
        heads = fit_heads(panel, rows, replace(config, threads=threads), (4, 4), "test")
        models.append(
            [model_text(booster, threads) for booster in (heads.classifier, heads.regressor)]
        )
        values = panel.matrix(rows, heads.kept)
        scores.append([s.tobytes() for s in heads.predict(values, threads)])
    assert models[0] == models[1]
    assert scores[0] == scores[1]


def test_whatever_can_change_a_prediction_changes_the_run_id(trained):
    project, _ = trained
    panel, config, latest = load(project)
    inputs = {
        "config": config,
        "panel": panel,
        "label": "close",
        "trained_through": date(2024, 5, 31),
        "latest": latest[1],
        "versions": {"lightgbm": "4.6.0"},
    }
    first = make_run_id(**inputs)
    assert re.fullmatch(r"direction_21-20240531-[0-9a-f]{10}", first)
    assert make_run_id(**inputs | {"config": replace(config, threads=7)}) == first
    changes = {
        "config": replace(config, lightgbm={**config.lightgbm, "num_leaves": 7}),
        "panel": replace(panel, checksum="0" * 64),
        "label": "adj_close",
        "latest": date(2024, 6, 28),
        "versions": {"lightgbm": "4.7.0"},
    }
    changed = {make_run_id(**inputs | {key: value}) for key, value in changes.items()}
    assert len(changed | {first}) == 6


def test_class_weighting_is_undone(trained):
    project, _ = trained
    panel, config, _ = load(project)
    rare = (panel.returns > 0.10).astype(float)
    rows = np.ones(len(panel), dtype=bool)
    heads = fit_heads(replace(panel, up=rare), rows, config, (10, 1), "test")
    values = panel.matrix(rows, heads.kept)
    probability, _ = heads.predict(values, 1)
    base = rare.mean()
    assert base < 0.3 and heads.positive_weight == pytest.approx((1 - base) / base)
    weighted = heads.classifier.predict(values)
    assert weighted.mean() > base + 0.1
    np.testing.assert_array_equal(
        probability, corrected_probability(weighted, heads.positive_weight)
    )
    assert probability.mean() == pytest.approx(base, abs=0.005)


def test_winsor_limits_and_coverage_come_from_the_training_rows(trained):
    project, _ = trained
    panel, config, _ = load(project)
    rows = panel.session_idx < 120
    heads = fit_heads(panel, rows, config, (2, 2), "test")
    assert heads.low == np.quantile(panel.returns[rows], 0.01)
    assert heads.high == np.quantile(panel.returns[rows], 0.99)
    kept = [panel.features[j] for j in heads.kept]
    assert "mom_12_1" not in kept  # known from session 252 on
    late = fit_heads(panel, panel.session_idx >= 260, config, (2, 2), "test")
    assert "mom_12_1" in [panel.features[j] for j in late.kept]


def test_a_null_panel_scores_one_half(tmp_path):
    overlay = {**SMALL, "features": {"families_off": ["volatility", "liquidity"]}}
    project = make_project(tmp_path / "p", make_market(80, 500, strength=0.0, seed=5), overlay)
    panel, config, latest = load(project)
    found = {
        m.name: m
        for m in run(panel, config, latest).metrics
        if (m.predictor, m.fold, m.segment) == ("lightgbm", 0, "all")
    }
    auc = found["roc_auc_session"]
    assert abs(auc.value - 0.5) < 0.02
    assert auc.low < 0.5 < auc.high


def test_too_little_history_and_one_class_are_clear_errors(tmp_path):
    project = make_project(tmp_path / "p", make_market(8, 150))
    done = asxw(project, "train", "--config", str(project / "small.yml"))
    assert done.exit_code == 1
    assert "Too little history" in done.stderr and "two test blocks need" in done.stderr
    panel, config, _ = load(project)
    with pytest.raises(AsxwError, match=r"Fold 1: .* positive labels; both classes"):
        rows = np.ones(len(panel), dtype=bool)
        fit_heads(replace(panel, up=np.ones(len(panel))), rows, config, (2, 2), "Fold 1")
    strict = replace(config, features=replace(config.features, minimum_coverage=1.0))
    with pytest.raises(AsxwError, match="no feature is known in 100%"):
        nothing = replace(panel, values=np.full_like(panel.values, np.nan))
        fit_heads(nothing, np.ones(len(panel), dtype=bool), strict, (2, 2), "Fold 1")


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"folds": {"embargos": 3}}, "unknown key folds.embargos"),
        ({"folds": {"blocks": 1}}, "folds.blocks must be at least 2"),
        ({"features": {"minimum_coverage": 40}}, r"must lie in \[0, 1\]"),
        ({"classifier": 3}, "classifier must be a mapping"),
        ({"threads": "many"}, "wrong form"),
        ({"model_name": "a b/../c"}, "model_name"),
        ({"folds": {"blocks": "twelve"}}, "folds.blocks must be a whole number, not 'twelve'"),
        ({"folds": {"embargo": None}}, "folds.embargo must be a whole number, not None"),
        ({"folds": {"waive_minimum_block": "maybe"}}, "must be true or false"),
        ({"evaluation": {"confidence": "high"}}, "evaluation.confidence must be a number"),
        ({"evaluation": {"replicates": 10.5}}, "evaluation.replicates must be a whole number"),
        ({"evaluation": {"replicates": -5}}, "replicates and evaluation.bins must be at least 2"),
        ({"evaluation": {"bins": 1}}, "replicates and evaluation.bins must be at least 2"),
        ({"evaluation": {"mean_block": 0}}, "mean_block and calibration_bins must be at least 1"),
        ({"evaluation": {"calibration_bins": 0}}, "calibration_bins must be at least 1"),
        ({"evaluation": {"seed": -1}}, "evaluation.seed and tune.seed must not be negative"),
        ({"tune": {"trials": "many"}}, "tune.trials must be a whole number"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, overlay, message):
    (tmp_path / "c.yml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    with pytest.raises(AsxwError, match=message):
        read_config(tmp_path / "c.yml")


def test_lightgbm_parameters_may_be_added(tmp_path):
    (tmp_path / "c.yml").write_text("lightgbm: {max_bin: 63}\nthreads: 3\n", encoding="utf-8")
    config = read_config(tmp_path / "c.yml")
    assert config.lightgbm["max_bin"] == 63 and config.lightgbm["num_leaves"] == 64
    assert config.num_threads == 3 and read_config().num_threads >= 1


def test_a_killed_train_leaves_the_old_run_and_the_next_gives_the_same(trained, tmp_path):
    project = make_project(tmp_path / "p", make_market())
    train_small(project)
    before = results(project)
    write_market(project / "warehouse.duckdb", make_market(seed=12))

    command = [sys.executable, "-c", "from ml.cli import main; main()"]
    command += ["--project-dir", str(project), "train", "--config", str(project / "small.yml")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    for line in process.stderr:
        if line.startswith("fold 2/4"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL
    assert results(project) == before

    train_small(project)
    assert query(project, "select count(*) from ml.runs") == [(2,)]
    fresh = make_project(tmp_path / "fresh", make_market(seed=12))
    train_small(fresh)
    wanted = results(fresh)
    run_id = wanted["runs"].column("run_id")[0].as_py()
    for name, table in results(project).items():
        inside = pa.array([r == run_id for r in table.column("run_id").to_pylist()])
        assert table.filter(inside).equals(wanted[name])


@pytest.mark.parametrize("command", ["train", "tune", "ablation"])
def test_another_horizon_than_the_labels_is_refused(tmp_path, command):
    families = {"base_families": ["momentum", "volatility"]}
    overlay = {**SMALL, "folds": {**SMALL["folds"], "horizon": 10}, "ablation": families}
    project = make_project(tmp_path / "p", make_market(8, 420), overlay)
    done = asxw(project, command, "--config", str(project / "small.yml"))
    assert done.exit_code == 1 and "fold" not in done.stderr.split("asxw: ")[0]
    assert "folds.horizon is 10" in done.stderr and "look 21 sessions ahead" in done.stderr


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"minimum_rows": 30}, "evaluation.minimum_rows is 30 .* session_minimum_rows is 20"),
        ({"calibration_bins": 5}, "calibration_bins is 5"),
        ({"segments": {"adv_1m": 2_000_000}}, "evaluation.segments .* liquidity_tiers is"),
        ({"costs": {0: 10}}, "evaluation.costs .* side_costs_bp is"),
    ],
)
def test_settings_the_marts_do_not_share_are_refused_at_once(tmp_path, overlay, message):
    project = make_project(tmp_path / "p", make_market(8, 60), {**SMALL, "evaluation": overlay})
    with (project / "dbt_project.yml").open("a", encoding="utf-8") as stream:
        for name, value in project_vars(REPOSITORY).items():
            if name in ("session_minimum_rows", "calibration_bins", "liquidity_tiers",
                        "side_costs_bp"):  # fmt: skip
                stream.write(f"  {name}: {value}\n")
    for arguments in (("train",), ("promote", "r", "--reason", "x")):
        done = asxw(project, *arguments, "--config", str(project / "small.yml"))
        assert done.exit_code == 1 and re.search(message, done.stderr), done.output
        assert "change both" in done.stderr
    with open_warehouse(project) as warehouse:
        assert not warehouse.has_table("ml", "trials")
    # and none other
    check_shared(read_config().evaluation, project_vars(project))


def test_a_feature_the_table_lacks_is_named(tmp_path):
    project = make_project(tmp_path / "p", make_market(8, 200))
    with open_warehouse(project) as warehouse:
        warehouse.execute("alter table intermediate.int_training_panel drop column signal")
    done = asxw(project, "train", "--config", str(project / "small.yml"))
    assert done.exit_code == 1
    assert "lacks signal" in done.stderr and "dbt build" in done.stderr


@pytest.fixture
def artifact_copy(trained, tmp_path):
    """A run's artifacts in a root of their own: root, folder, run id."""
    project, _ = trained
    (run_id,) = query(project, "select run_id from ml.runs")[0]
    target = run_folder(tmp_path / "root", "direction_21", run_id)
    shutil.copytree(run_folder(project / "artifacts", "direction_21", run_id), target)
    return tmp_path / "root", target, run_id


def test_the_manifest_tells_what_the_models_are_and_need(trained, artifact_copy):
    project, _ = trained
    root, folder, run_id = artifact_copy
    content = json.loads((folder / "manifest.json").read_text())
    with open_warehouse(project, read_only=True) as warehouse:
        (row,) = warehouse.read_arrow("select * from ml.runs").to_pylist()
    assert content["contract_version"] == CONTRACT_VERSION and content["run_id"] == run_id
    assert content["panel_checksum"] == row["panel_checksum"]
    assert content["trained_through"] == row["trained_through"].isoformat()
    assert content["parameters"] == json.loads(row["parameters_json"])
    assert content["versions"] == json.loads(row["versions_json"])
    assert content["seeds"]["lightgbm"] == content["parameters"]["lightgbm"]["seed"]
    assert [c["name"] for c in content["columns"]] == json.loads(row["features_json"])
    signal = next(c for c in content["columns"] if c["name"] == "signal")
    assert signal == {"name": "signal", "dtype": "double precision", "family": "fundamental",
                      "lookback": 21, "unit": "fraction"}  # fmt: skip
    assert set(content["sha256"]) == {
        "classifier.txt", "regressor.txt", "metrics.csv", "importance.csv",
    }  # fmt: skip
    for name, table in (("metrics", "metrics"), ("importance", "importance")):
        lines = (folder / f"{name}.csv").read_text().splitlines()
        assert len(lines) - 1 == query(project, f"select count(*) from ml.{table}")[0][0]
    assert load_artifact(root, "direction_21", run_id).card.git_commit == row["git_commit"]


def test_the_zip_holds_the_lot_and_can_be_unpacked_elsewhere(artifact_copy, tmp_path):
    _, folder, run_id = artifact_copy
    elsewhere = tmp_path / "elsewhere" / "direction_21"
    with zipfile.ZipFile(folder / f"{run_id}.zip") as archive:
        archive.extractall(elsewhere)
    names = {p.name for p in folder.iterdir()} - {f"{run_id}.zip"}
    assert {p.name for p in (elsewhere / run_id).iterdir()} == names
    assert load_artifact(tmp_path / "elsewhere", "direction_21", run_id).card.run_id == run_id


@pytest.mark.parametrize(
    "name", ["classifier.txt", "regressor.txt", "manifest.json", "metrics.csv", "importance.csv"]
)
def test_a_flipped_byte_is_refused(artifact_copy, name):
    root, folder, run_id = artifact_copy
    whole = (folder / name).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 12)):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        (folder / name).write_bytes(bytes(flipped))
        with pytest.raises(AsxwError, match=rf"{name} (is|follows)"):
            load_artifact(root, "direction_21", run_id)
    (folder / name).write_bytes(whole)
    load_artifact(root, "direction_21", run_id)


def signed(content: dict) -> str:
    del content["manifest_sha256"]
    content["manifest_sha256"] = manifest_checksum(content)
    return json.dumps(content)


def test_other_features_versions_and_missing_files_are_refused(artifact_copy):
    root, folder, run_id = artifact_copy
    path = folder / "manifest.json"
    text = path.read_text()
    renamed = json.loads(text)
    renamed["columns"][0]["name"] = "another"
    path.write_text(signed(renamed))
    with pytest.raises(AsxwError, match="another feature list"):
        load_artifact(root, "direction_21", run_id)
    path.write_text(signed(json.loads(text) | {"contract_version": CONTRACT_VERSION + 1}))
    with pytest.raises(AsxwError, match=f"contract version {CONTRACT_VERSION + 1}, and this"):
        load_artifact(root, "direction_21", run_id)
    path.write_text(text)
    (folder / "importance.csv").unlink()
    with pytest.raises(AsxwError, match=r"importance\.csv is missing"):
        load_artifact(root, "direction_21", run_id)
    path.unlink()
    with pytest.raises(AsxwError, match="no complete artifacts"):
        load_artifact(root, "direction_21", run_id)


def test_features_that_are_not_what_they_were_are_refused(artifact_copy):
    root, _, run_id = artifact_copy
    card = load_artifact(root, "direction_21", run_id).card
    now = list(card.columns)
    check_features(card, [*now, Feature("newcomer")])
    with pytest.raises(AsxwError, match=f"needs {now[1].name}, and"):
        check_features(card, [replace(c, name=c.name + "s") if c is now[1] else c for c in now])
    with pytest.raises(AsxwError, match=rf"{now[0].name} with lookback 21, .* with 22 now"):
        check_features(card, [replace(now[0], lookback=22), *now[1:]])
    with pytest.raises(AsxwError, match="with dtype double precision"):
        check_features(card, [replace(now[0], dtype="bigint"), *now[1:]])
