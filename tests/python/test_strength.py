"""The evaluation finds the strength that was planted, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from built_market import SMALL
from strength import (
    CHANCE,
    LATENT,
    beyond_chance,
    build,
    planted_strength,
    pooled,
    run_market,
)

from ml.config import read_config
from ml.training import MODEL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Enough trees to find a trace, every session open to the folds."""
    file = tmp_path_factory.mktemp("strength") / "small.yml"
    overlay = {
        **SMALL,
        "classifier": {"trees_final": 4, "trees_fold": 40},
        "regressor": {"trees_final": 4, "trees_fold": 40},
        "folds": {"blocks": 2, "holdout": 0},
    }
    file.write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return read_config(file)


def trained(folder, config):
    return run_market(
        folder / "warehouse.duckdb",
        folder / "target" / "manifest.json",
        folder / "data" / "planted_latent.parquet",
        config,
    )


def test_the_planted_strength_is_in_the_interval(built_market, config):
    run, panel = trained(built_market.folder, config)
    planted = planted_strength()
    # what docs/sample_market.md measures on large markets
    assert 0.64 < planted.roc_auc_session < 0.655
    latent = {name: pooled(run, LATENT, name) for name in ("roc_auc_session", "rank_ic")}
    for name, metric in latent.items():
        assert metric.low < getattr(planted, name) < metric.high
        assert metric.low > CHANCE[name]
        assert metric.high - metric.low < 0.25
    # a model sees traces of it: something, and less than the whole
    assert pooled(run, MODEL, "rank_ic").low > 0
    assert pooled(run, f"{MODEL} - {LATENT}", "rank_ic").high < 0
    # what the test of the null counts is found where there is something
    assert beyond_chance(run)
    assert np.isnan(panel.extra[LATENT]).mean() < 0.2


def test_nothing_is_found_in_the_null(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("null")
    build(folder, symbols=60, sessions=420, seed=7, null=True)
    run, _ = trained(folder, config)
    for predictor in (MODEL, LATENT):
        for name, chance in CHANCE.items():
            metric = pooled(run, predictor, name)
            assert metric.low < chance < metric.high
    assert beyond_chance(run) == []
