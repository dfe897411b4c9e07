"""Permutation importance: the same scores as LightGBM's own, and what it says of known features."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest
from scipy.special import expit

from ml.importance import (
    _exchanged_by_prediction,
    exchange_within,
    exchanged_scores,
    permutation_importance,
    sample_rows,
)

SESSIONS, SHARES = 30, 40
ROWS = SESSIONS * SHARES
STRONG, WEAK, MARKET, NOISE = range(4)


def make_rows(seed: int = 3):
    """Two features that matter, one that is the same for all shares of a session, and noise."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(SESSIONS), SHARES)
    values = rng.normal(size=(ROWS, 5))
    values[:, MARKET] = rng.normal(size=SESSIONS)[session]
    odds = 1.5 * values[:, STRONG] + 0.5 * values[:, WEAK] + 2 * values[:, MARKET]
    up = (rng.random(ROWS) < expit(odds)).astype(float)
    values[rng.random(ROWS) < 0.2, WEAK] = np.nan
    values[rng.random(ROWS) < 0.9, NOISE] = np.nan
    return session, values, up


def fit(values, up, **parameters):
    shared = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 20}
    return lgb.train({**shared, **parameters}, lgb.Dataset(values, label=up), 30)


@pytest.mark.parametrize(
    "parameters",
    [
        {"num_leaves": 64, "min_data_in_leaf": 3},
        {"num_leaves": 2},
        {"num_leaves": 90, "min_data_in_leaf": 3},
        {"num_leaves": 16, "zero_as_missing": True},
    ],
)
def test_scores_are_those_of_the_booster(parameters):
    session, values, up = make_rows()
    # columns that were whole in training have unknown values later, which LightGBM reads as 0
    booster = fit(values, up, **parameters)
    later = values.copy()
    later[::5, STRONG] = np.nan
    later[::3, MARKET] = 0.0
    rng = np.random.default_rng(1)
    exchange = np.stack([exchange_within(session, rng) for _ in range(values.shape[1])])
    plain, changed = exchanged_scores(booster, later, exchange)
    wanted_plain, wanted_changed = _exchanged_by_prediction(booster, later, exchange)
    np.testing.assert_allclose(plain, wanted_plain, atol=1e-12)
    np.testing.assert_allclose(changed, wanted_changed, atol=1e-12)
    assert np.abs(changed[STRONG] - plain).max() > 0.05


def test_a_booster_that_found_nothing_is_worth_nothing():
    session, values, up = make_rows()
    booster = fit(values, up, min_data_in_leaf=ROWS)
    found = permutation_importance(booster, values, session, up, least=20, seed=1)
    assert found.auc == 0.5 and not found.auc_loss.any()


def test_an_exchange_stays_within_the_session():
    session = np.repeat([4, 7, 9], [5, 30, 1])
    order = exchange_within(session, np.random.default_rng(0))
    assert sorted(order) == list(range(36)) and (order != np.arange(36)).sum() > 20
    np.testing.assert_array_equal(session[order], session)


def test_what_matters_is_worth_most_and_what_all_shares_have_is_worth_nothing():
    session, values, up = make_rows()
    booster = fit(values, up, num_leaves=8)
    fresh = make_rows(seed=8)
    found = permutation_importance(booster, fresh[1], session, fresh[2], least=20, seed=1)
    loss = found.auc_loss
    assert loss[STRONG] == loss.max() > 0.1 and 0 < loss[WEAK] < loss[STRONG]
    assert loss[MARKET] == 0  # the booster uses it most of all, and every share has the same value
    assert abs(loss[NOISE]) < 0.01
    assert (found.sessions, found.rows) == (SESSIONS, ROWS)
    again = permutation_importance(booster, fresh[1], session, fresh[2], least=20, seed=1)
    np.testing.assert_array_equal(again.auc_loss, loss)
    lonely = permutation_importance(booster, fresh[1], session, fresh[2], least=500, seed=1)
    assert np.isnan(lonely.auc)


def test_the_sample_spreads_over_the_block():
    session = np.repeat(np.arange(100, 160), 300)
    rng = np.random.default_rng(2)
    rows = sample_rows(session, 2000, rng)
    numbers, counts = np.unique(session[rows], return_counts=True)
    assert len(rows) == 2000 and set(counts) == {100}
    assert numbers[0] == 100 and numbers[-1] == 159 and np.diff(numbers).max() <= 4
    assert np.all(np.diff(rows) > 0)
    small = np.repeat(np.arange(5), 12)
    np.testing.assert_array_equal(sample_rows(small, 2000, rng), np.arange(60))
