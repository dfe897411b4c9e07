"""The protocol ladder: on pure noise the mistakes score, and the honest protocol does not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from built_warehouse import Warehouse

from ml.audit.ladder import (
    PURGED,
    RUNGS,
    SHUFFLED,
    SYMBOL_ORDER,
    UNPURGED,
    Rows,
    climb,
    judge,
    ladder_rows,
    read_rows,
    splits,
)
from ml.audit.ladder_picture import ladder_picture
from ml.config import read_config
from ml.errors import AsxwError
from ml.folds import plan_folds
from ml.manifest import read_manifest
from ml.warehouse import DuckDBWarehouse

CONFIG = replace(read_config(), threads=1)
SYMBOLS, SESSIONS, HORIZON = 30, 240, 21
NEVER = np.iinfo(np.int64).max


def noise() -> Rows:
    """Random walks; slow columns by which a tree can tell when and who a row is."""
    rng = np.random.default_rng(3)
    shape = (SESSIONS, SYMBOLS)
    walk = np.cumsum(rng.normal(size=(SESSIONS + HORIZON, SYMBOLS)), axis=0)
    up = (walk[HORIZON:] > walk[:-HORIZON]).astype(float)
    slow = np.cumsum(rng.normal(size=shape), axis=0)
    market = np.broadcast_to(np.cumsum(rng.normal(size=(SESSIONS, 1)), axis=0), shape)
    unknown = rng.random(shape) < 0.05
    session = np.broadcast_to(np.arange(SESSIONS)[:, None], shape)
    rises = np.broadcast_to(walk[-1] - walk[0], shape)
    return Rows(
        symbol=np.broadcast_to(np.arange(SYMBOLS), shape).ravel(),
        session=session.ravel(),
        label_end=np.where(unknown, NEVER, session + HORIZON).ravel(),
        up=np.where(unknown, np.nan, up).ravel(),
        values=np.stack([walk[:-HORIZON].ravel(), slow.ravel(), market.ravel()], axis=1),
        features=("walk", "roe"),
        context=("index",),
        latest={"roe": rises.ravel()},
    )


@pytest.fixture(scope="module")
def rows() -> Rows:
    return noise()


@pytest.fixture(scope="module")
def judged(rows):
    return climb(rows, CONFIG, trees=25, blocks=3, report=lambda line: None)


def test_mistakes_score_on_noise_and_the_honest_protocol_does_not(judged):
    by_name = {j.rung.name: j for j in judged}
    assert by_name["naive"].auc > by_name["fundamentals as known"].auc + 0.03
    assert by_name["shuffled k-fold"].auc > 0.6
    honest = judged[-1]
    assert honest.rung.name == "honest" and honest.auc < 0.53
    assert honest.session_auc_low < 0.5 < honest.session_auc_high


def test_each_rung_changes_one_thing():
    for lower, upper in pairwise(RUNGS):
        fields = ("split", "todays_fundamentals", "unknown_is_down", "market_columns")
        assert sum(getattr(lower, f) != getattr(upper, f) for f in fields) == 1


@pytest.mark.parametrize("split", [SYMBOL_ORDER, SHUFFLED, UNPURGED, PURGED])
def test_no_row_is_trained_on_and_tested_in_one_fold(rows, split):
    usable = np.flatnonzero(~np.isnan(rows.up))
    folds = list(splits(split, rows, usable, 3, 5, 1))
    assert len(folds) == 3
    for train, test in folds:
        assert len(test) and not set(train) & set(test) and set(train) | set(test) <= set(usable)
        first = rows.session[test].min()
        if split == PURGED:
            assert rows.label_end[train].max() < first - 5
        if split == UNPURGED:
            assert rows.session[train].max() == first - 1
        if split == SYMBOL_ORDER:
            assert rows.symbol[train].max() <= rows.symbol[test].min()


def test_a_rung_sees_what_it_says(rows):
    some = np.arange(5)
    naive, known, honest = RUNGS[0], RUNGS[1], RUNGS[-1]
    np.testing.assert_array_equal(rows.matrix(known, some), rows.values[:5])
    np.testing.assert_array_equal(rows.matrix(honest, some), rows.values[:5, :2])
    np.testing.assert_array_equal(rows.matrix(naive, some)[:, 1], rows.latest["roe"][:5])


def test_one_class_only_is_an_error(rows):
    one_class = replace(rows, up=np.ones_like(rows.up))
    with pytest.raises(AsxwError, match="honest: a fold has"):
        judge(RUNGS[-1], one_class, CONFIG, trees=2, blocks=2, workers=1)


def test_the_picture_has_every_market_and_protocol(judged):
    table = ladder_rows("noise", judged, trees=25, stride=1, git_commit=None).to_pylist()
    other = [{**row, "market": "other"} for row in table]
    svg = ladder_picture(table + other)
    for text in ("noise", "other", *(rung.name for rung in RUNGS)):
        assert f">{text}<" in svg


def test_nothing_of_the_sealed_holdout_is_read(built_market: Warehouse) -> None:
    config = read_config(None)
    manifest = read_manifest(built_market.target / "manifest.json", "ml")
    with DuckDBWarehouse(built_market.path, read_only=True) as warehouse:
        found = read_rows(warehouse, manifest, config, stride=5)
        panel = warehouse.read_rows(
            "select distinct session_idx from intermediate.int_training_panel"
        )
    first = plan_folds(np.array(sorted(s for (s,) in panel)), config.folds).holdout_first
    assert first is not None and found.session.max() < first
    assert found.label_end[~np.isnan(found.up)].max() < first


def test_the_command_fills_the_table_and_the_mart_takes_it(built_market: Warehouse, tmp_path):
    picture = tmp_path / "ladder.svg"
    # no prices to ask where the variables say they are, so the rows bear the name of the market
    variables = ("--vars", "{raw_schema: elsewhere}")
    options = (*variables, "--trees", "3", "--blocks", "2", "--stride", "4")
    try:
        built_market.run("asxw", "audit", "ladder", *options, "--picture", str(picture))
        found = built_market.frame("select * from ml.protocol_ladder order by rung")
        assert list(found["name"]) == [rung.name for rung in RUNGS]
        assert set(found["market"]) == {"asx"} and found["auc"].between(0, 1).all()
        # the naive protocol has rows without a label, the others have not
        assert found["n_rows"][0] > found["n_rows"][2]
        assert "honest" in picture.read_text(encoding="utf-8")
        built_market.run("dbt", "--quiet", "build", "--select", "stg_protocol_ladder+")
        mart = built_market.frame("select * from marts.fct_protocol_ladder order by rung")
        assert mart["auc_above_honest"].iloc[-1] == 0
    finally:
        built_market.execute("delete from ml.protocol_ladder where market = 'asx'")
        built_market.execute("delete from ml.audits where layer = 'ladder'")
