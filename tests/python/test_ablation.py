"""What a feature family is worth, from the plan to the table."""

from __future__ import annotations

from dataclasses import replace

import lightgbm as lgb
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from panel_fixture import REPOSITORY, SMALL, make_market, make_project
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from ml.ablation import plan_comparisons, run_ablation, score_fold
from ml.cli import main
from ml.config import read_config
from ml.contract import read_contract
from ml.dataset import read_panel
from ml.errors import AsxwError
from ml.folds import every_nth_session, plan_folds
from ml.manifest import ColumnMeta, project_manifest
from ml.warehouse import open_warehouse

OVERLAY = {
    **SMALL,
    "ablation": {
        "base_families": ["momentum", "volatility", "liquidity"],
        "trees": 10,
        "training_stride": 3,
        "lightgbm": {"num_leaves": 8},
    },
}
KEY = ("kind", "family", "segment", "fold", "metric")


def asxw(project, *arguments):
    return CliRunner().invoke(main, ["--project-dir", str(project), *arguments])


def rows(project):
    with open_warehouse(project, read_only=True) as warehouse:
        table = warehouse.read_arrow("select * from ml.ablations order by all")
    return table.drop_columns(["created_at"]).to_pylist()


def loaded(project):
    config = read_config(project / "small.yml")
    manifest = project_manifest(project, project / "target" / "manifest.json")
    columns = manifest.ablation_columns(config.features, config.ablation.context)
    with open_warehouse(project) as warehouse:
        panel = read_panel(warehouse, manifest.panel, [c.name for c in columns])
    return panel, columns, config


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("ablation") / "p", make_market(), OVERLAY)
    result = asxw(project, "ablation", "--config", str(project / "small.yml"))
    assert result.exit_code == 0, result.output
    return project, result


def test_every_family_of_the_manifest_is_compared(done):
    project, result = done
    found = {(r["kind"], r["family"]) for r in rows(project)}
    families = {"momentum", "volatility", "liquidity", "fundamental", "sentiment"}
    assert {f for kind, f in found if kind == "drop_one"} == families
    # macro is context: off in the model, tried all the same
    assert {f for kind, f in found if kind == "add_one"} == {"fundamental", "sentiment", "macro"}
    assert ("all_added", "all") in found
    assert "drop_one" in result.stdout and "rows in ml.ablations" in result.stdout


def test_rows_follow_the_contract(done):
    project, _ = done
    table = read_contract(REPOSITORY, "ml")["ablations"]
    with open_warehouse(project) as warehouse:
        written = warehouse.read_arrow("select * from ml.ablations")
    assert written.schema.equals(table.arrow_schema)
    keys = [tuple(r[k] for k in KEY) for r in written.to_pylist()]
    assert len(keys) == len(set(keys)) > 0
    # the highest tier has fewer than 20 shares a session here
    assert {r["segment"] for r in written.to_pylist()} == {"all", "adv_100k"}
    assert {r["metric"] for r in written.to_pylist()} == {"roc_auc_session", "rank_ic"}
    for row in written.to_pylist():
        assert row["delta"] == pytest.approx(row["value_with"] - row["value_without"])
        if row["ci_low"] is not None:
            assert row["ci_low"] <= row["delta"] <= row["ci_high"]


def test_the_planted_family_helps_and_noise_does_not(done):
    project, _ = done
    found = {tuple(r[k] for k in KEY): r for r in rows(project)}
    for kind in ("drop_one", "add_one"):
        planted = found[kind, "fundamental", "all", 0, "roc_auc_session"]
        assert planted["ci_low"] > 0 and planted["delta"] > 0.01
        assert planted["n_features"] == 3
        noise = found[kind, "sentiment", "all", 0, "roc_auc_session"]
        # known in one row of ten, so the coverage filter leaves it out everywhere
        assert noise["delta"] == 0


def test_values_agree_with_scikit_learn_and_scipy(done):
    """One comparison computed afresh: own data sets, own loop over sessions."""
    project, _ = done
    panel, columns, config = loaded(project)
    (wanted,) = [
        c
        for c in plan_comparisons(columns, config)
        if (c.kind, c.family) == ("drop_one", "fundamental")
    ]
    plan = plan_folds(panel.session_idx, config.folds)
    auc, ic = [], []
    for fold in plan.folds:
        train = fold.train_rows(panel.label_end_idx)
        newest = panel.session_idx[train].max()
        train &= (newest - panel.session_idx) % 3 == 0
        test = np.flatnonzero(plan.test_rows(fold, panel.session_idx, panel.label_end_idx))
        scores = []
        for names in (wanted.with_family, wanted.without_family):
            columns_of = [
                panel.features.index(n)
                for n in names
                if np.isfinite(panel.values[train, panel.features.index(n)]).mean() >= 0.4
            ]
            up = panel.up[train]
            weight = np.where(up > 0, (up == 0).sum() / up.sum(), 1.0)
            parameters = {
                **config.lightgbm,
                **config.classifier.lightgbm,
                **config.ablation.lightgbm,
                "min_data_in_leaf": 333,
                "num_threads": 1,
                "verbosity": -1,
            }
            data = lgb.Dataset(
                panel.values[train][:, columns_of], label=up, weight=weight, params=parameters
            )
            booster = lgb.train(parameters, data, 10)
            scores.append(booster.predict(panel.values[test][:, columns_of]))
        for session in np.unique(panel.session_idx[test]):
            inside = panel.session_idx[test] == session
            up, returns = panel.up[test][inside], panel.returns[test][inside]
            if inside.sum() >= 20 and 0 < up.mean() < 1:
                auc.append([roc_auc_score(up, s[inside]) for s in scores])
                ic.append([spearmanr(s[inside], returns).statistic for s in scores])
    found = {tuple(r[k] for k in KEY): r for r in rows(project)}
    for name, expected in (("roc_auc_session", np.array(auc)), ("rank_ic", np.array(ic))):
        row = found["drop_one", "fundamental", "all", 0, name]
        assert row["n"] == len(expected)
        assert row["value_with"] == pytest.approx(expected[:, 0].mean(), abs=1e-9)
        assert row["value_without"] == pytest.approx(expected[:, 1].mean(), abs=1e-9)
        assert row["delta"] == pytest.approx((expected[:, 0] - expected[:, 1]).mean(), abs=1e-9)


def test_a_variant_is_the_model_of_its_features_alone(done):
    project, _ = done
    panel, _, config = loaded(project)
    plan = plan_folds(panel.session_idx, config.folds)
    fold = plan.folds[-1]
    past = fold.train_rows(panel.label_end_idx)
    train = np.flatnonzero(every_nth_session(past, panel.session_idx, 3))
    test = np.flatnonzero(plan.test_rows(fold, panel.session_idx, panel.label_end_idx))
    names = ("mom_1", "vol_60", "signal")
    (shared, nothing) = score_fold(panel, train, test, [names, ("always_null",)], config)
    alone = replace(
        panel,
        features=names,
        values=np.asfortranarray(panel.values[:, [panel.features.index(n) for n in names]]),
    )
    (expected,) = score_fold(alone, train, test, [names], config)
    np.testing.assert_array_equal(shared, expected)
    assert nothing is None


def test_again_gives_the_same_rows_once(done):
    project, _ = done
    before = rows(project)
    for threads in (1, 2):
        overlay = {**OVERLAY, "threads": threads}
        (project / "again.yml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        again = asxw(project, "ablation", "--config", str(project / "again.yml"))
        assert again.exit_code == 0, again.output
        assert rows(project) == before


def test_only_the_sessions_asked_for(tmp_path):
    project = make_project(tmp_path / "p", make_market(40, 420), OVERLAY)
    panel, _, _ = loaded(project)
    days = np.unique(panel.trade_date).astype(object)
    span = ("--from", str(days[90]), "--to", str(days[-20]))
    result = asxw(project, "ablation", "--config", str(project / "small.yml"), *span)
    assert result.exit_code == 0, result.output
    assert {(r["first_session"], r["last_session"]) for r in rows(project)} == {
        (days[90], days[-20])
    }
    nothing = asxw(
        project, "ablation", "--config", str(project / "small.yml"), "--from", "2099-01-01"
    )
    assert nothing.exit_code == 1
    assert "is empty from 2099-01-01" in nothing.stderr


def test_a_null_panel_shows_no_family_that_helps(tmp_path):
    overlay = {**OVERLAY, "features": {"families_off": ["volatility", "liquidity"]}}
    overlay["ablation"] = {**OVERLAY["ablation"], "base_families": ["momentum"]}
    project = make_project(tmp_path / "p", make_market(80, 500, strength=0.0, seed=5), overlay)
    panel, columns, config = loaded(project)
    ablation = run_ablation(
        panel, plan_comparisons(columns, config), config,
        label="close", git_commit=None, report=lambda line: None,
    )  # fmt: skip
    pooled = [m for _, m in ablation.metrics if m.fold == 0 and m.name == "roc_auc_session"]
    assert len(pooled) >= 5
    # one interval in twenty leaves zero out by chance
    assert sum(m.low > 0 or m.high < 0 for m in pooled) <= 1


def column(name, family, role="feature"):
    return ColumnMeta(name, role, family)


def test_sessions_with_too_few_rows_are_a_clear_error(tmp_path):
    panel, columns, config = loaded(make_project(tmp_path / "p", make_market(25, 330), OVERLAY))
    config = replace(config, evaluation=replace(config.evaluation, minimum_rows=1000))
    comparisons = plan_comparisons(columns, config)[:1]
    with pytest.raises(AsxwError, match="has 1000 rows with a label"):
        run_ablation(
            panel, comparisons, config, label="close", git_commit=None, report=lambda _: None
        )


def test_plans_without_sense_are_refused(tmp_path):
    config = read_config()
    with pytest.raises(AsxwError, match=r"base_families names relative; the families are"):
        plan_comparisons(
            [column(f, f) for f in ("momentum", "volatility", "liquidity", "value")], config
        )
    one = replace(config, ablation=replace(config.ablation, base_families=("momentum",)))
    with pytest.raises(AsxwError, match="one feature family only"):
        plan_comparisons([column("a", "momentum"), column("b", "momentum")], one)


def test_a_family_with_learned_and_market_wide_columns():
    """Its market-wide column is in no drop-one model, and is added where the family is tried."""
    config = read_config()
    config = replace(config, ablation=replace(config.ablation, base_families=("momentum",)))
    columns = [
        column("a", "momentum"),
        column("b", "relative"),
        column("market", "relative", "context"),
        column("m", "momentum", "context"),
    ]
    found = {(c.kind, c.family): c for c in plan_comparisons(columns, config)}
    assert found["drop_one", "relative"].with_family == ("a", "b")
    assert found["add_one", "relative"].with_family == ("a", "b", "market")
    # a base family's own market-wide column
    assert found["add_one", "momentum"].with_family == ("a", "m")
    assert found["all_added", "all"].with_family == ("a", "b")
